#!/usr/bin/env python3
"""Assembles the program of secp256k1_points.v and its table of multiples of the generator.

    python3 microcode.py            writes microcode.vh, microcode_rom.vh and generator_rom.vh
    python3 microcode.py --check    says whether those files are current, and runs the program on Python's integers

Every word is one operation of secp256k1_mac.v, d = a·b + c, a·b − c or a·b − 2c modulo p, and one decision about what comes
next, which may look at the result. See secp256k1_points.v for what the fields mean; the layout of a word is FIELDS, and the
Verilog takes it from microcode.vh.
"""
import random
import sys
from pathlib import Path

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8

# Name and width of each field, lowest bits first.
FIELDS = [
    ("dst", 6), ("a", 6), ("b", 6), ("c", 6),
    ("a_digit", 1), ("b_digit", 1),  # the low four bits of the register's number are the digit of u2
    ("a_one", 1),  # a is 1
    ("b_from", 3), ("c_from", 2), ("c_negative", 1), ("c_twice", 1),
    ("write", 1),
    ("nibble", 1),  # which half of the current byte of u2 is the digit: 1 the upper one
    ("next", 3), ("target", 9),
    ("count", 1),  # load the counter with `target`
    ("out", 2),
]
WIDTH = sum(width for _, width in FIELDS)
DEPTH = 512

B_FROM = {"reg": 0, "one": 1, "three_halves": 2, "zero": 3, "gx": 4, "gy": 5}
C_FROM = {"none": 0, "reg": 1, "seven": 2}
# What comes next: the following word, or `target` …
NEXT = {
    "on": 0,
    "go": 1,  # always
    "zero": 2,  # if the result is zero
    "nonzero": 3,
    "odd": 4,  # if the result's parity is not the wanted one of R.y
    "skip_r": 5,  # if the digit of u2 is zero
    "skip_g": 6,  # if the current byte of u1 is zero
    "loop": 7,  # if the counter is not zero, and then count down
}
OUT = {"none": 0, "x": 1, "y": 2, "no_key": 3}  # `y` and `no_key` end the program

# Registers. A table of d·R for digits d = 1 … 15 fills 1 … 15 (X), 17 … 31 (Y) and 33 … 47 (Z); the places of digit 0 are free.
TX, TY, TZ = 0, 16, 32
REGS = {"rx": TX + 1, "ry": TY + 1, "rz": TZ + 1, "f0": 0, "f1": 16, "f2": 32}
REGS |= {name: 48 + i for i, name in enumerate("X Y Z A B C D E F H S T U V W L".split())}
for d in range(1, 16):
    REGS |= {f"tx{d}": TX + d, f"ty{d}": TY + d, f"tz{d}": TZ + d}


class Program:
    def __init__(self):
        self.words, self.labels, self.fresh = [], {}, 0

    def label(self, name=None):
        if name is None:
            self.fresh += 1
            name = f".{self.fresh}"
        return name

    def here(self, name):
        assert name not in self.labels, name
        self.labels[name] = len(self.words)

    def op(self, dst, a, b="one", c=None, *, minus=False, twice=False, nibble=0, out="none", count=None, **jump):
        """dst = a·b + c. `a` and `b`: a register, "tx"/"ty"/"tz" for the table's entry of the digit, or a constant."""
        word = dict.fromkeys((name for name, _ in FIELDS), 0)
        if dst is not None:
            word["dst"], word["write"] = REGS[dst], 1
        table = {"tx": TX, "ty": TY, "tz": TZ}
        if a == "one":
            word["a_one"] = 1
        elif a in table:
            word["a"], word["a_digit"] = table[a], 1
        else:
            word["a"] = REGS[a]
        if b in table:
            word["b"], word["b_digit"] = table[b], 1
        elif b in REGS:
            word["b"] = REGS[b]
        else:
            word["b_from"] = B_FROM[b]
        if c == "seven":
            word["c_from"] = C_FROM["seven"]
        elif c is not None:
            word["c"], word["c_from"] = REGS[c], C_FROM["reg"]
        word["c_negative"], word["c_twice"], word["nibble"] = int(minus), int(twice), nibble
        word["out"] = OUT[out]
        assert len(jump) <= 1 and not (jump and count is not None)
        for kind, target in jump.items():
            word["next"], word["target"] = NEXT[kind], target
        if count is not None:
            word["count"], word["target"] = 1, count
        self.words.append(word)

    # Field arithmetic

    def squarings(self, dst, src, times):
        """dst = src^(2^times)."""
        if times == 1:
            return self.op(dst, src, src)
        self.op(dst, src, src, count=times - 2)
        again = self.label()
        self.here(again)
        self.op(dst, dst, dst, loop=again)

    def power_223(self, x, result, x2, x22):
        """result = x^(2^223 − 1), and x2 = x^3, x22 = x^(2^22 − 1), by the chain 1, 2, 3, 6, 9, 11, 22, 44, 88, 176, 220, 223."""
        t = result

        def extend(dst, src, times, other):
            self.squarings(t, src, times)
            self.op(dst, t, other)

        extend(x2, x, 1, x)  # 2 ones
        extend("A", x2, 1, x)  # 3
        extend("B", "A", 3, "A")  # 6
        extend("B", "B", 3, "A")  # 9
        extend("B", "B", 2, x2)  # 11
        extend(x22, "B", 11, "B")  # 22
        extend("B", x22, 22, x22)  # 44
        extend("C", "B", 44, "B")  # 88
        extend("D", "C", 88, "C")  # 176
        extend("B", "D", 44, "B")  # 220
        extend(result, "B", 3, "A")  # 223

    # Points, in Jacobian coordinates: x = X / Z², y = Y / Z³, and Z = 0 is the point at infinity

    def double(self, dst, src, **last):
        """dst = 2·src, nine operations. Infinity stays infinity; no point has y = 0 as the group's order is odd.
        With L = 3/2·X²: X' = L² − 2·X·Y², Y' = L·(X·Y² − X') − Y⁴, Z' = Y·Z."""
        (x, y, z), (x1, y1, z1) = dst, src
        self.op("S", y1, y1)
        self.op("T", x1, x1)
        self.op("L", "T", "three_halves")
        self.op("T", x1, "S")
        self.op("W", "S", "S")
        self.op(z, y1, z1)
        self.op(x, "L", "L", "T", minus=True, twice=True)
        self.op("T", "T", "one", x, minus=True)
        self.op(y, "L", "T", "W", minus=True, **last)

    def add_rest(self, dst, x1, y1, z, **last):
        """The second half of an addition: from H = x2 − x1 and F = y2 − y1 (over a common denominator) and z = Z1·Z2."""
        dx, dy, dz = dst
        self.op("T", "H", "H")
        self.op("V", x1, "T")
        self.op("T", "T", "H")
        self.op("W", y1, "T")
        self.op(dz, z, "H")
        self.op("T", "F", "F", "T", minus=True)
        self.op(dx, "T", "one", "V", minus=True, twice=True)
        self.op("V", "V", "one", dx, minus=True)
        self.op(dy, "F", "V", "W", minus=True, **last)

    def add_affine(self, dst, src, x2, y2, nibble=0):
        """dst = src + (x2, y2, 1) where neither is infinity and they are neither equal nor opposite."""
        x1, y1, z1 = src
        self.op("A", z1, z1)
        self.op("H", "A", x2, x1, minus=True, nibble=nibble)
        self.op("A", "A", z1)
        self.op("F", "A", y2, y1, minus=True, nibble=nibble)
        self.add_rest(dst, x1, y1, z1)


ACC = ("X", "Y", "Z")


def program():
    p = Program()
    table = {d: (f"tx{d}", f"ty{d}", f"tz{d}") for d in range(1, 16)}

    # Lift: the engine has put r into rx. y = (x³ + 7)^((p + 1) / 4), if that is a root at all.
    p.op("T", "rx", "rx")
    p.op("E", "T", "rx", "seven")
    p.power_223("E", "T", "U", "V")
    p.squarings("T", "T", 23)
    p.op("T", "T", "V")
    p.squarings("T", "T", 6)
    p.op("T", "T", "U")
    p.squarings("ry", "T", 2)
    p.op(None, "ry", "ry", "E", minus=True, nonzero="no key")
    p.op(None, "ry", "one", odd="negate")
    p.here("lifted")
    p.op("rz", "one", "one")

    # The table. (d − 1)·R and R are never equal or opposite for d from 3 to 15, as n is a greater prime.
    p.double(table[2], table[1])
    for d in range(3, 16):
        p.add_affine(table[d], table[d - 1], "rx", "ry")

    # u1·G + u2·R, a byte of each from the top: eight doublings, two additions from the table, one from the generator's.
    p.op("Z", "one", "zero", count=31)
    p.here("byte")
    late = []
    for nibble in (1, 0):
        for _ in range(3):
            p.double(ACC, ACC)
        done = p.label()
        p.double(ACC, ACC, nibble=nibble, skip_r=done)
        infinite, same_x = p.label(), p.label()
        p.op("A", "Z", "Z", zero=infinite)
        p.op("B", "tz", "tz", nibble=nibble)
        p.op("C", "X", "B")
        p.op("B", "tz", "B", nibble=nibble)
        p.op("D", "Y", "B")
        p.op("V", "Z", "A")
        p.op("F", "ty", "V", "D", minus=True, nibble=nibble)
        p.op("E", "tz", "Z", nibble=nibble)
        p.op("H", "tx", "A", "C", minus=True, nibble=nibble, zero=same_x)
        p.add_rest(ACC, "C", "D", "E")
        p.here(done)
        late.append(("r", nibble, infinite, same_x, done))
    infinite, same_x, done = p.label(), p.label(), p.label()
    p.op(None, "one", "zero", skip_g=done)
    p.op("A", "Z", "Z", zero=infinite)
    p.op("V", "Z", "A")
    p.op("F", "V", "gy", "Y", minus=True)
    p.op("H", "A", "gx", "X", minus=True, zero=same_x)
    p.add_rest(ACC, "X", "Y", "Z")
    p.here(done)
    late.append(("g", 0, infinite, same_x, done))
    p.op(None, "one", "zero", loop="byte")

    # To affine coordinates: 1 / Z = Z^(p − 2).
    p.op(None, "Z", "one", zero="no key")
    p.power_223("Z", "T", "U", "V")
    p.squarings("T", "T", 23)
    p.op("T", "T", "V")
    p.squarings("T", "T", 5)
    p.op("T", "T", "Z")
    p.squarings("T", "T", 3)
    p.op("T", "T", "U")
    p.squarings("T", "T", 2)
    p.op("T", "T", "Z")
    p.op("A", "T", "T")
    p.op(None, "X", "A", out="x")
    p.op("A", "A", "T")
    p.op(None, "Y", "A", out="y")

    # What seldom happens.
    p.here("negate")
    p.op("ry", "one", "zero", "ry", minus=True, go="lifted")
    p.here("no key")
    p.op(None, "one", "zero", out="no_key")
    for which, nibble, infinite, same_x, done in late:
        source = ("tx", "ty", "tz") if which == "r" else ("gx", "gy", "one")
        # Infinity + Q = Q.
        p.here(infinite)
        for dst, value in zip(ACC, source):
            last = {"go": done} if dst == "Z" else {}
            p.op(dst, "one", value, nibble=nibble, **last)
        # Equal x: the same point, whose double is wanted, or opposite ones.
        p.here(same_x)
        opposite = p.label()
        p.op(None, "F", "one", nonzero=opposite)
        p.double(ACC, ACC, go=done)
        p.here(opposite)
        p.op("Z", "one", "zero", go=done)
    return p


def encode(p):
    for word in p.words:
        if isinstance(word["target"], str):
            word["target"] = p.labels[word["target"]]
        value, shift = 0, 0
        for name, width in FIELDS:
            assert 0 <= word[name] < 1 << width, (name, word[name])
            value |= word[name] << shift
            shift += width
        yield value


def affine_add(p1, p2):
    """Textbook addition; None is infinity. Used for the generator's table and for the check."""
    if p1 is None or p2 is None:
        return p1 or p2
    (x1, y1), (x2, y2) = p1, p2
    if x1 == x2:
        if (y1 + y2) % P == 0:
            return None
        slope = 3 * x1 * x1 * pow(2 * y1, -1, P)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, P)
    x3 = (slope * slope - x1 - x2) % P
    return x3, (slope * (x1 - x3) - y1) % P


def times(k, point):
    total = None
    while k:
        if k & 1:
            total = affine_add(total, point)
        point = affine_add(point, point)
        k >>= 1
    return total


def files():
    p = program()
    words = list(encode(p))
    assert len(words) <= DEPTH, len(words)
    # Never reached: the rest ends the program.
    idle = encode_one(out=OUT["no_key"], a_one=1, b_from=B_FROM["zero"])
    rom = [f"microcode[{i}] = {WIDTH}'h{w:013x};" for i, w in enumerate(words + [idle] * (DEPTH - len(words)))]
    header = ["// Fields of a word of microcode. Made by microcode.py."]
    shift = 0
    for name, width in FIELDS:
        header.append(f"`define UC_{name.upper()} {shift + width - 1}:{shift}")
        shift += width
    header.append(f"`define UC_WIDTH {WIDTH}")
    for prefix, table in (("B_FROM", B_FROM), ("C_FROM", C_FROM), ("NEXT", NEXT), ("OUT", OUT)):
        header += [f"`define {prefix}_{name.upper()} {value}" for name, value in table.items()]
    multiples = [(0, 0)] + [times(k, (GX, GY)) for k in range(1, 256)]
    return p, {
        "microcode_rom.vh": "// The program. Made by microcode.py.\n" + "\n".join(rom) + "\n",
        "microcode.vh": "\n".join(header) + "\n",
        "generator_rom.vh": "// (x, y) of the multiples of the generator. Made by microcode.py.\n"
        + "".join(f"generator[{i}] = 512'h{x:064x}{y:064x};\n" for i, (x, y) in enumerate(multiples)),
    }


def encode_one(**fields):
    value, shift = 0, 0
    for name, width in FIELDS:
        value |= fields.get(name, 0) << shift
        shift += width
    return value


def run(p, r, parity, u1, u2):
    """Interprets the program: (public key or None, words executed)."""
    regs, pc, count, steps, x_out = [0] * 64, 0, 0, 0, None
    regs[REGS["rx"]] = r
    constants = {B_FROM["one"]: 1, B_FROM["three_halves"]: 3 * pow(2, -1, P) % P, B_FROM["zero"]: 0}
    while True:
        w = p.words[pc]
        steps += 1
        byte1, byte2 = u1 >> 8 * count & 255 if count < 32 else 0, u2 >> 8 * count & 255 if count < 32 else 0
        digit = byte2 >> 4 if w["nibble"] else byte2 & 15
        a = 1 if w["a_one"] else regs[w["a"] | digit * w["a_digit"]]
        g = times(byte1, (GX, GY)) or (0, 0)
        b = {B_FROM["reg"]: regs[w["b"] | digit * w["b_digit"]], B_FROM["gx"]: g[0], B_FROM["gy"]: g[1], **constants}[w["b_from"]]
        c = [0, regs[w["c"]], 7][w["c_from"]] * (2 if w["c_twice"] else 1)
        d = (a * b + (-c if w["c_negative"] else c)) % P
        if w["write"]:
            regs[w["dst"]] = d
        if w["out"] == OUT["x"]:
            x_out = d
        elif w["out"] == OUT["y"]:
            return (x_out, d), steps
        elif w["out"] == OUT["no_key"]:
            return None, steps
        taken = [False, True, d == 0, d != 0, d & 1 != parity, digit == 0, byte1 == 0, count != 0][w["next"]]
        pc = w["target"] if taken else pc + 1
        if w["next"] == NEXT["loop"] and count:
            count -= 1
        if w["count"]:
            count = w["target"]


def check(p):
    rng = random.Random(1)
    small = [(0, 1), (1, 1), (1, 2), (255, 16), (256, 15), (0, 15), (0x0F00, 0xF0), (N - 1, 1), (1, N - 1), (N - 15, N - 255)]
    longest = 0
    for k, (u1, u2) in enumerate([(rng.randrange(N), rng.randrange(1, N)) for _ in range(10)] + small * 3):
        # R = G and R = −G make additions of equal and opposite points common.
        nonce = [rng.randrange(1, N), 1, 2][k % 3]
        x, y = times(nonce, (GX, GY))
        parity = rng.randrange(2)
        point = (x, y if y & 1 == parity else P - y)
        wanted = affine_add(times(u1, (GX, GY)), times(u2, point))
        got, steps = run(p, x, parity, u1, u2)
        assert got == wanted, (nonce, parity, u1, u2)
        longest = max(longest, steps)
    assert run(p, 5, 0, 1, 1)[0] is None, "no point has x = 5"
    return longest


def main():
    here = Path(__file__).parent
    p, contents = files()
    if "--check" in sys.argv:
        stale = [name for name, text in contents.items() if (here / name).read_text() != text]
        if stale:
            sys.exit(f"{', '.join(stale)}: out of date; run python3 microcode.py")
        print(f"current; {len(p.words)} words; at most {check(p)} words executed a recovery")
    else:
        for name, text in contents.items():
            (here / name).write_text(text)


main()
