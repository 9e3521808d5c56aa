// The search for the scales of q4_k, over the 8 groups of a block side by side. Numbers become integers of 16
// bits first: the sums that the search is made of are then exact, and take half the time of floats.
#pragma once
#include "base/lanes-inl.h"

namespace fr {
namespace {

constexpr int group = 32;                 // numbers that share a scale and a min
constexpr int group_vectors = group / 2;  // of Shorts

// One group in every lane: x = centre + unit * y, y from -top to top over the range of the group and zero.
constexpr float top = 32767;
struct Groups {
  Shorts y[group_vectors];  // inputs i and i + 8 in one lane, of the first 16 inputs and then of the others
  Floats centre, unit, inverse_unit;
  Floats zero;  // centre / unit: the least min, since the stored one is not negative
  Floats sum_y;
};

// In units of the group: y = scale * code - min, codes 0 to 15. The stored min is unit * min - centre.
struct Grid {
  Floats scale, min;
};
struct Sums {
  Floats q, qq, yq;  // of codes, their squares, their products with y
};

Shorts pairs(Ints x) { return reinterpret_cast<Shorts>((x & 0xffff) | (x << 16)); }

// How codes are found: ((y * factor) >> 16) + shift, in 512ths of a code.
struct Rounding {
  Shorts factor, shift;
};
Rounding rounding(const Grid& g) {
  const Floats inverse = inverse_of(g.scale);
  const Floats factor = least(set1(512.0f * 65536) * inverse, set1(top)) + set1(0.5f);
  const Floats shift =
      least(most(set1(512.0f) * (g.min * inverse), set1(-16000.0f)), set1(16000.0f)) + set1(256.5f);
  return {pairs(to_ints(factor)), pairs(to_ints(shift))};
}
Shorts codes_of(Shorts y, const Rounding& r) {
  const Shorts q = (high_product(y, r.factor) + r.shift) >> 9;
  return least(most(q, Shorts{}), Shorts{} + 15);
}

Sums sums_with(const Groups& x, const Rounding& r) {
  Shorts q = {}, qq = {};
  Ints yq = {};
  for (const Shorts& y : x.y) {
    const Shorts c = codes_of(y, r);
    q += c;
    qq += c * c;
    yq += pair_products(y, c);
  }
  const Shorts one = Shorts{} + 1;
  return {to_floats(pair_products(q, one)), to_floats(pair_products(qq, one)), to_floats(yq)};
}

// Squared error with these codes, less the squares of y.
Floats error_of(const Groups& x, const Sums& t, const Grid& g) {
  return g.scale * (g.scale * t.qq - set1(2.0f) * (t.yq + g.min * t.q)) +
         g.min * (set1(1.0f * group) * g.min + set1(2.0f) * x.sum_y);
}

// The best grid for these codes: least squares, with a min that can be stored.
Grid best_grid(const Groups& x, const Sums& t) {
  const Floats n = set1(1.0f * group), zero = set1(0.0f);
  const Floats determinant = n * t.qq - t.q * t.q, inverse = inverse_of(determinant);
  Grid g{(n * t.yq - x.sum_y * t.q) * inverse, (t.q * t.yq - t.qq * x.sum_y) * inverse};
  const Ints one_code = less(determinant, set1(0.5f)), negative = less(x.sum_y + n * x.zero, zero);
  const Ints bound = one_code | less(g.min, x.zero) | less(g.scale, zero);
  g.scale = select(bound, most((t.yq + x.zero * t.q) * inverse_of(t.qq), zero), g.scale);
  g.min = select(bound, x.zero, g.min);
  return {select(one_code & negative, zero, g.scale), select(one_code & negative, -x.sum_y / n, g.min)};
}

// From the range, whole and cut at both ends: the better one for its codes.
Grid free_grid(const Groups& x) {
  Grid best = {};
  Floats least_error = set1(__builtin_inff());
  constexpr float keeps[] = {1.0f, 0.86f};
  for (const float keep : keeps) {
    const Sums t = sums_with(x, rounding({set1(2 * top * keep / 15), most(set1(top * keep), x.zero)}));
    const Grid g = best_grid(x, t);
    const Floats error = error_of(x, t, g);
    const Ints better = less(error, least_error);
    least_error = select(better, error, least_error);
    best = {select(better, g.scale, best.scale), select(better, g.min, best.min)};
  }
  return best;
}

float top_of(Floats x) {
  float most_of_all = x[0];
  for (int i = 1; i < lanes; ++i) most_of_all = x[i] > most_of_all ? x[i] : most_of_all;
  return most_of_all;
}
constexpr float largest_step = 65504;  // of halves
float as_half(float x) { return from_half(to_half(set1(x)))[0]; }

// Whole numbers from 0 to 63 that scales and mins are stored as, times the block's two steps.
Floats whole(Floats x) { return to_floats(to_ints(x)); }
Floats bounded(Floats x) { return least(most(x, set1(0.0f)), set1(63.0f)); }

struct Block {
  Groups x;
  float d = 0, dmin = 0;  // the steps, as halves hold them
  float inverse_d = 0, inverse_dmin = 0;
  Floats scale = {}, min = {};  // multiples

  void set_steps(float wanted_d, float wanted_dmin) {
    d = as_half(wanted_d);
    dmin = as_half(wanted_dmin);
    inverse_d = inverse_of(set1(d))[0];
    inverse_dmin = inverse_of(set1(dmin))[0];
  }
  // The nearest multiples.
  Floats scale_of(Floats wanted) const {
    return whole(bounded(wanted * x.unit * set1(inverse_d)) + set1(0.5f));
  }
  Floats min_of(Floats wanted) const {
    return whole(bounded((wanted * x.unit - x.centre) * set1(inverse_dmin)) + set1(0.5f));
  }
  Grid grid(Floats s, Floats m) const {
    return {s * set1(d) * x.inverse_unit, m * set1(dmin) * x.inverse_unit + x.zero};
  }
  void choose_multiples();
};

// From multiples next to what is wanted, the ones that are best for the codes there: the pair with the least
// error. One thing after the other for all, so that a processor has independent work at hand.
void Block::choose_multiples() {
  constexpr struct {
    float scale, min;
  } steps[] = {{0, 0}, {-1, 0}, {1, 0}, {0, -1}, {0, 1}, {-2, 1}, {2, -1}};
  constexpr int count = sizeof steps / sizeof steps[0];
  Rounding roundings[count];
  Sums sums[count];
  for (int i = 0; i < count; ++i)
    roundings[i] = rounding(grid(bounded(scale + set1(steps[i].scale)), bounded(min + set1(steps[i].min))));
  for (int i = 0; i < count; ++i) sums[i] = sums_with(x, roundings[i]);
  Floats least_error = set1(__builtin_inff());
  for (const Sums& t : sums) {
    const Floats s = scale_of(best_grid(x, t).scale);
    // The mean of what is left is the best min.
    const Floats rest = (s * set1(d) * x.inverse_unit * t.q - x.sum_y) * set1(1.0f / group);
    const Floats m = min_of(rest);
    const Floats error = error_of(x, t, grid(s, m));
    const Ints better = less(error, least_error);
    least_error = select(better, error, least_error);
    scale = select(better, s, scale);
    min = select(better, m, min);
  }
}

// False if a number is not finite.
bool load_groups(const float* from, Groups& x) {
  Floats low[lanes], high[lanes], total = {};
  for (int j = 0; j < lanes; ++j) {
    low[j] = high[j] = load<Floats>(from + j * group);
    total += low[j];
    for (int i = lanes; i < group; i += lanes) {
      const Floats v = load<Floats>(from + j * group + i);
      low[j] = least(low[j], v);
      high[j] = most(high[j], v);
      total += v;
    }
  }
  transpose(low);
  transpose(high);
  Floats bottom = {}, peak = {};
  for (int j = 0; j < lanes; ++j) {
    bottom = least(bottom, low[j]);
    peak = most(peak, high[j]);
  }
  const Floats range = peak - bottom;
  float check = 0;  // NaN if there is a NaN or an infinity
  for (int j = 0; j < lanes; ++j) check += total[j] * 0.0f + range[j] * 0.0f;
  if (check != 0) return false;
  x.centre = (peak + bottom) * set1(0.5f);
  x.unit = range * set1(0.5f / top);
  x.inverse_unit = inverse_of(x.unit);
  x.zero = x.centre * x.inverse_unit;

  Ints words[2][lanes];
  for (int j = 0; j < lanes; ++j) {
    const Floats centre = set1(x.centre[j]), inverse = set1(x.inverse_unit[j]);
    const auto whole_y = [&](int i) {  // in the low bits of a large number
      return as_ints((load<Floats>(from + j * group + i) - centre) * inverse + set1(0x1.8p23f));
    };
    for (int h = 0; h < 2; ++h) words[h][j] = (whole_y(16 * h) & 0xffff) | (whole_y(16 * h + 8) << 16);
  }
  Ints sum = {};
  for (int h = 0; h < 2; ++h) {
    transpose(words[h]);
    for (int i = 0; i < lanes; ++i) {
      x.y[8 * h + i] = reinterpret_cast<Shorts>(words[h][i]);
      sum += pair_products(x.y[8 * h + i], Shorts{} + 1);
    }
  }
  x.sum_y = to_floats(sum);
  return true;
}

void write_block(const Block& s, uint8_t* b) {
  store(low_halves(to_half(set1(s.d)))[0], b);
  store(low_halves(to_half(set1(s.dmin)))[0], b + 2);
  const Ints scale = to_ints(s.scale), min = to_ints(s.min);
  for (int j = 0; j < 4; ++j) {  // 6 bits each: the upper two of groups 4 to 7 lie above those of 0 to 3
    b[4 + j] = static_cast<uint8_t>(scale[j] | scale[j + 4] >> 4 << 6);
    b[8 + j] = static_cast<uint8_t>(min[j] | min[j + 4] >> 4 << 6);
    b[12 + j] = static_cast<uint8_t>((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
  const Rounding r = rounding(s.grid(s.scale, s.min));
  Ints words[lanes];  // a byte for inputs i, i + 16, i + 8, i + 24 of a group
  for (int i = 0; i < lanes; ++i)
    words[i] = reinterpret_cast<Ints>(codes_of(s.x.y[i], r) | codes_of(s.x.y[8 + i], r) << 8);
  transpose(words);
  for (int j = 0; j < lanes; j += 2) {
    const Bytes v = reinterpret_cast<Bytes>(words[j] | words[j + 1] << 4);
    store(__builtin_shufflevector(v, v, 0, 4, 8, 12, 16, 20, 24, 28, 2, 6, 10, 14, 18, 22, 26, 30,  //
                                  1, 5, 9, 13, 17, 21, 25, 29, 3, 7, 11, 15, 19, 23, 27, 31),
          b + 16 + j / 2 * group);
  }
}

// 256 numbers to 144 bytes.
bool q4_k(const float* from, uint8_t* b) {
  Block s;
  if (!load_groups(from, s.x)) return false;
  const Grid wanted = free_grid(s.x);
  const float top_scale = top_of(wanted.scale * s.x.unit),
              top_min = top_of(wanted.min * s.x.unit - s.x.centre);
  if (top_scale >= 63 * largest_step || top_min >= 63 * largest_step) return false;
  s.set_steps(top_scale / 63, top_min / 63);
  s.scale = s.scale_of(wanted.scale);
  s.min = s.min_of(wanted.min);
  s.choose_multiples();
  write_block(s, b);
  return true;
}

}  // namespace
}  // namespace fr
