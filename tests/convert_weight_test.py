#!/usr/bin/env python3
"""tools/convert_weight.py with a program that only records how it is called. Standard library alone."""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

script = Path(__file__).resolve().parent.parent / "tools" / "convert_weight.py"


class ConvertWeight(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = Path(self.folder.name)
        (self.path / "tools").mkdir()
        self.script = self.path / "tools" / "convert_weight.py"  # in a tree where nothing is built
        self.script.write_bytes(script.read_bytes())

    def program(self, name, code=0):
        """A program that prints its arguments and ends with `code`."""
        p = self.path / name
        p.parent.mkdir(parents=True, exist_ok=True)
        p.write_text(f'#!/bin/sh\necho "{name}: $*"\necho problem >&2\nexit {code}\n')
        p.chmod(0o755)
        return p

    def run_script(self, *arguments, **environment):
        env = {"PATH": os.environ["PATH"], **environment}
        env["PATH"] = environment.get("PATH", "/usr/bin:/bin")
        # -S -I: no installed packages.
        return subprocess.run([sys.executable, "-S", "-I", self.script, *arguments], env=env, capture_output=True, text=True)

    def test_named_program_gets_the_arguments(self):
        done = self.run_script("in put.pth", "out.fr", FRWKV_BIN=str(self.program("other/frwkv")))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "other/frwkv: convert in put.pth out.fr\n", "problem\n"))

    def test_exit_code_passes_through(self):
        self.assertEqual(self.run_script("a", "b", FRWKV_BIN=str(self.program("frwkv", 3))).returncode, 3)

    def test_further_arguments_pass_through(self):
        done = self.run_script("a", "b", "--dtype", "fp32", FRWKV_BIN=str(self.program("frwkv")))
        self.assertEqual(done.stdout, "frwkv: convert a b --dtype fp32\n")

    def test_built_program_comes_before_the_path(self):
        folder = str(self.program("somewhere/frwkv").parent)
        self.assertEqual(self.run_script("a", "b", PATH=folder + ":/usr/bin:/bin").stdout, "somewhere/frwkv: convert a b\n")
        for place in ("build/frwkv", "out/release/bin/frwkv"):
            self.program(place)
            self.assertEqual(self.run_script("a", "b", PATH=folder + ":/usr/bin:/bin").stdout, f"{place}: convert a b\n")

    def test_without_a_program_the_build_command_is_printed(self):
        done = self.run_script("a", "b")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"cd {self.path} && ./run build frwkv", done.stderr)

    def test_wrong_program(self):
        done = self.run_script("a", "b", FRWKV_BIN=str(self.path / "none"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("FRWKV_BIN is no program", done.stderr)

    def test_usage(self):
        self.assertEqual(self.run_script("a").returncode, 2)
        self.assertIn("IN.pth OUT.fr", self.run_script().stderr)
        self.assertEqual(self.run_script("--help").returncode, 0)


if __name__ == "__main__":
    unittest.main()
