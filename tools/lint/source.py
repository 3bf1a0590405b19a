# SPDX-License-Identifier: GPL-2.0
"""The Rust sources of the kernel side, as the lints read them.

A Source has its text twice: as it is, and with comments and literals blanked, at
the same offsets, so that what is found in the one can be shown from the other.
"""

import re
import subprocess
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The folders that are laid over the kernel's source.
KERNEL = ("rust/", "mm/", "fs/", "arch/", "drivers/", "samples/")

# Crates outside rust/: the file at the root of each, by the name that the lints use.
LEAVES = {
    "mm/memremap": "mm/memremap/memremap.rs",
    "mm/memremap/tests": "mm/memremap/tests/memremap_kunit.rs",
    "mm/devmap": "mm/devmap/devmap.rs",
    "fs/dax": "fs/dax/dax.rs",
    "arch/x86/mm/gup": "arch/x86/mm/gup/gup.rs",
    "drivers/nvdimm/pmem": "drivers/nvdimm/pmem/pmem.rs",
    "drivers/dax/fsdev": "drivers/dax/fsdev/fsdev.rs",
    "samples/rust/rust_dax_holder": "samples/rust/rust_dax_holder.rs",
    "samples/rust/rust_migrate": "samples/rust/rust_migrate.rs",
    "samples/rust/rust_nd_rom": "samples/rust/rust_nd_rom.rs",
    "samples/rust/rust_pin_sum": "samples/rust/rust_pin_sum.rs",
    "samples/rust/rust_dax_bench": "samples/rust/rust_dax_bench.rs",
}


def tracked(*suffixes):
    """The files of the checkout, as git has them, that end so."""
    # A checkout that belongs to another user is fine: it is only listed.
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    names = sorted(set(out.stdout.splitlines()))
    return [n for n in names if n.endswith(suffixes) and (ROOT / n).is_file()]


LITERAL = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*.*?\*/)
      | (?P<raw>b?r(?P<hash>\#*)".*?"(?P=hash))
      | (?P<string>[bc]?"(?:\\.|[^"\\])*")
      | (?P<char>b?'(?:\\[^u]|\\u\{[^}]*\}|[^\\'])')""",
    re.X | re.S,
)


def blank(text):
    """The text with every character of comments and literals but newlines as a space."""
    return LITERAL.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


class Source:
    """One Rust file of the kernel side."""

    def __init__(self, path):
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8")

    @cached_property
    def code(self):
        return blank(self.text)

    @cached_property
    def lines(self):
        return self.text.splitlines()

    def line_of(self, offset):
        return self.text.count("\n", 0, offset) + 1

    @cached_property
    def crate(self):
        """`kernel`, `macros`, or the leaf that the file is compiled into."""
        if self.path.startswith("rust/"):
            return self.path.split("/")[1]
        for name in sorted(LEAVES, key=len, reverse=True):
            if self.path == LEAVES[name] or (
                self.path.startswith(name + "/") and not LEAVES[name].startswith("samples/")
            ):
                return name
        return None

    @cached_property
    def module(self):
        """The path of the module in its crate, as a tuple; () for the root."""
        if self.crate == "kernel":
            parts = Path(self.path).relative_to("rust/kernel").with_suffix("").parts
            return () if parts == ("lib",) else parts
        if self.crate in LEAVES:
            if self.path == LEAVES[self.crate]:
                return ()
            return Path(self.path).relative_to(self.crate).with_suffix("").parts
        return ()

    @cached_property
    def uses(self):
        """Every path that begins at a crate, a parent or the module itself: (line, crate, parts)."""
        found = []
        code = self.code
        for m in re.finditer(r"\buse\s+([^;]+);", code):
            for parts in expand(m.group(1)):
                found.append((self.line_of(m.start()), parts))
        body = re.sub(r"\buse\s+[^;]+;", lambda m: re.sub(r"[^\n]", " ", m.group()), code)
        for m in re.finditer(r"(?<![\w:])\$?(crate|super|kernel|self)((?:::\w+)+)", body):
            found.append((self.line_of(m.start()), [m.group(1)] + m.group(2).split("::")[1:]))
        return [(line, *self.resolve(parts)) for line, parts in found if parts]

    def resolve(self, parts):
        """From where a path leads: (crate, parts); a crate that is none of ours is `None`."""
        module = list(self.module)
        first = parts[0]
        if first == "kernel":
            return "kernel", tuple(parts[1:])
        if first == "crate":
            return self.crate, tuple(parts[1:])
        if first in ("super", "self"):
            for part in parts:
                if part == "super":
                    module = module[:-1]
                elif part != "self":
                    break
            rest = [p for p in parts if p not in ("super", "self")]
            return self.crate, tuple(module + rest)
        return None, tuple(parts)


def expand(tree):
    """The paths of a use declaration, braces expanded: lists of names."""
    tree = re.sub(r"\s+as\s+\w+", "", tree)
    tokens = re.findall(r"\w+|::|[{},*]", tree)
    paths = []

    def walk(index, prefix):
        path = list(prefix)
        while index < len(tokens):
            token = tokens[index]
            if token == "{":
                index += 1
                while tokens[index] != "}":
                    index = walk(index, path)
                    if tokens[index] == ",":
                        index += 1
                return index + 1
            if token in ("}", ","):
                paths.append(path)
                return index
            if token not in ("::", "*"):
                path.append(token)
            index += 1
        paths.append(path)
        return index

    walk(0, [])
    return [p for p in paths if p]


def sources():
    """All Rust files of the kernel side."""
    return [Source(p) for p in tracked(".rs") if p.startswith(KERNEL)]


def entries(name):
    """The lines of a list beside this file, without comments: (key, text behind the first ':')."""
    found = []
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, _, rest = line.partition(":")
            found.append((key.strip(), rest.strip()))
    return found
