# -*- test-case-name: tests.ctl.image.test_exchange -*-
"""
Tests for L{xferd.ctl.image.unpack}: other users who exchange directories, and signals.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from tests.ctl.image.case import UnpackCase
from xferd.ctl.image import unpack
from xferd.ctl.interrupts import CommandInterrupted, Interrupts
from xferd.errors import DiskFull
from xferd.unpack.flatten import Progress, flatten


class ExchangeTests(UnpackCase):
    """
    Copies to a directory of another user, who exchanges its entries.
    """

    def exchange(self) -> Path:
        """
        Replace the directory that is filled by a link to a victim.
        """
        victim = self.place / "victim"
        victim.mkdir()
        (hidden,) = self.place.glob(".target.*")
        hidden.rename(self.place / "away")
        hidden.symlink_to(victim)
        return victim

    def test_before_copying(self) -> None:
        """
        The copy goes to the directory that was made, and not to the target of a link.
        """
        for command in ("unpack", "bundle"):

            def exchange(*what: Any, **how: Any) -> Progress:
                self.exchange()
                return flatten(*what, **how)

            self.patch(unpack, "flatten", exchange)
            outcome = self.ctl(command)
            self.assertEqual(outcome.status, 1)
            self.assertIn("another user has exchanged", outcome.err)
            self.assertEqual(os.listdir(self.place / "victim"), [])
            self.assertIn("etc" if command == "unpack" else "rootfs", os.listdir(self.place / "away"))
            for path in ("victim", "away"):
                shutil.rmtree(self.place / path)
            self.target.unlink()

    def test_failure(self) -> None:
        """
        A failed copy removes its own directory alone.
        """

        def fail(*_: object, **__: object) -> Progress:
            (self.exchange() / "precious").touch()
            raise DiskFull("no space is left for 'x'")

        self.patch(unpack, "flatten", fail)
        self.assertEqual(self.ctl("unpack").status, 1)
        self.assertEqual(os.listdir(self.place / "victim"), ["precious"])

    def test_before_the_first_look(self) -> None:
        """
        A directory that was exchanged before the check is not used: its group, mode and access
        control list are unchanged.
        """
        victim = self.place / "victim"
        victim.mkdir()
        (victim / "precious").touch()
        victim.chmod(0o705)
        mkdir = os.mkdir

        def exchange(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            mkdir(name, mode, dir_fd=dir_fd)
            if name.startswith(".target."):
                (self.place / name).rmdir()
                victim.rename(self.place / name)

        self.patch(os, "mkdir", exchange)
        outcome = self.ctl("unpack")
        self.assertIn("another user has exchanged the new directory", outcome.err)
        self.assertFalse(self.target.exists())
        (hidden,) = self.place.glob(".target.*")
        self.assertEqual(os.listdir(hidden), ["precious"])
        self.assertEqual(stat.S_IMODE(hidden.stat().st_mode), 0o705)


class InterruptTests(UnpackCase):
    """
    Signals at critical moments.
    """

    def test_before_the_name(self) -> None:
        """
        A signal during the final rename does not undo it.
        """
        interrupts = Interrupts()
        real = os.rename

        def rename(source: str, target: str, **how: int) -> None:
            interrupts.arrived()
            real(source, target, **how)

        self.patch(os, "rename", rename)
        with self.assertRaises(CommandInterrupted), unpack.new_directory(str(self.target), interrupts):
            pass
        self.assertTrue(self.target.is_dir())
        self.assertEqual(sorted(os.listdir(self.place)), ["store", "target"])
