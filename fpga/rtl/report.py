#!/usr/bin/env python3
"""Measures clocks in simulation, estimates areas with yosys, and writes the tables of docs/rtl.md.

    python3 report.py PROGRAMS      the folder with the simulations; `make report` builds them first

Takes some minutes of one core, nearly all of it in yosys. Where yosys is missing the clocks are still measured and printed, and
docs/rtl.md stays as it is.
"""
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
DOC = HERE / "../../docs/rtl.md"
CLOCK_MHZ = 250
ENGINES_SIMULATED = 2
UTILISATION = 0.7

SECP = ["secp256k1_mac", "secp256k1_scalars", "secp256k1_points", "secp256k1_recover"]
KECCAK = ["keccak_round", "keccak_f1600", "keccak256"]
# Name, top module, parameters, modules counted elsewhere.
BLOCKS = [
    ("multiply-add modulo p", "secp256k1_mac", {}, []),
    ("point sequencer, registers, ROMs", "secp256k1_points", {"SIDE_BITS": 96}, ["secp256k1_mac"]),
    ("divisions modulo n", "secp256k1_scalars", {"SIDE_BITS": 353}, []),
    ("range checks and exit", "secp256k1_recover", {"SIDE_BITS": 96}, ["secp256k1_scalars", "secp256k1_points"]),
    ("rings, arbiters (one engine)", "ring_top", {"ENGINES": 1}, ["secp256k1_recover", "keccak256"]),
    ("Keccak-256, folded, one block", "keccak256", {"FOLDED": 1, "BLOCKS_MAX": 1, "LENGTH_BITS": 8, "SIDE_BITS": 672}, []),
    ("Keccak-f[1600], pipelined, 24 stages", "keccak_f1600", {}, []),
]
ENGINE = BLOCKS[:4]
SHARED = BLOCKS[4:6]
# Resources of the whole device (AMD DS890, product tables: VU9P and VU13P).
CARDS = [
    ("Alveo U200 (VU9P class)", 1_182_240, 2_364_480, 6_840, 2_160),
    ("Alveo U250 (VU13P class)", 1_728_000, 3_456_000, 12_288, 2_688),
]


def signatures(count):
    """`count` valid requests as bytes of the ABI without seal, from the script's own curve arithmetic."""
    source = (HERE / "microcode.py").read_text().removesuffix("\nmain()\n")
    curve = {"__name__": "microcode", "__file__": str(HERE / "microcode.py")}
    exec(compile(source, "microcode.py", "exec"), curve)
    n, g, times = curve["N"], (curve["GX"], curve["GY"]), curve["times"]
    rng = random.Random(7)
    for _ in range(count):
        key, nonce, z = (rng.randrange(1, n) for _ in range(3))
        x, y = times(nonce, g)
        s, parity = pow(nonce, -1, n) * (z + x * key) % n, y & 1
        if s > n // 2:
            s, parity = n - s, parity ^ 1
        yield z.to_bytes(32, "big") + x.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([parity] + [0] * 11)


def clocks(programs):
    """(clocks of a lone recovery, clocks a recovery and engine under load, simulated clocks a second)."""
    bodies = list(signatures(24))
    log2, lines, tail = 12, ["reset 12 1"], 0

    def send(count):
        nonlocal tail
        for _ in range(count):
            head = tail.to_bytes(8, "little") + (1).to_bytes(2, "little") + bytes(2) + (1).to_bytes(4, "little")
            seal = ((tail >> log2 & 1) ^ 1).to_bytes(4, "little")
            lines.append((head + bodies[tail % len(bodies)] + seal).hex())
            tail += 1
        lines.append("wait")

    few, many = 252, 504
    send(1)
    send(few)
    send(many)
    start = time.monotonic()
    output = subprocess.run([programs / "rtl-lines"], input="\n".join(lines) + "\n", text=True, capture_output=True, check=True)
    seconds = time.monotonic() - start
    bad = [line for line in output.stdout.splitlines() if not line.startswith("#") and line[16:20] != "0000"]
    assert not bad, bad[:1]
    lone, some, more = (int(line.split()[2]) for line in output.stdout.splitlines() if line.startswith("#"))
    return lone, (more - some) * ENGINES_SIMULATED / (many - few), (lone + some + more) / seconds


def keccak_clocks(programs, build):
    messages = "".join(f"{i:064x}\n" for i in range(500))
    output = subprocess.run([programs / f"rtl-keccak-{build}"], input=messages, text=True, capture_output=True, check=True)
    return int(output.stdout.splitlines()[-1].split()[2]) / 500


def area(top, parameters, elsewhere):
    sources = " ".join(f"{m}.v" for m in KECCAK + SECP + ["ring_top"])
    chparam = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    script = f"read_verilog {sources}; "
    script += f"chparam {chparam} {top}; " if chparam else ""
    script += f"hierarchy -top {top}; "
    # Parametrised copies have names of their own.
    script += "".join(f"blackbox {m} $paramod*{m}*; " for m in elsewhere)
    script += f"synth_xilinx -family xcup -noiopad -noclkbuf -flatten -top {top}; stat"
    start = time.monotonic()
    output = subprocess.run(["yosys", "-p", script], cwd=HERE, text=True, capture_output=True)
    if output.returncode:
        sys.exit(f"yosys failed on {top}:\n{output.stdout[-2000:]}{output.stderr[-2000:]}")
    result = resources(output.stdout)
    print(f"{top}: {result} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return result


def resources(log):
    """Counts of yosys's last statistics, by kind."""
    cells = {name: int(n) for name, n in re.findall(r"^\s+(\w+)\s+(\d+)$", log[log.rindex("Printing statistics") :], re.M)}
    count = lambda pattern, weight=1: sum(n * weight for name, n in cells.items() if re.fullmatch(pattern, name))
    lut_ram = count("RAM64M8|RAM32M16", 8) + count("RAM64M|RAM32M", 4) + count("RAM64X1D|RAM128X1S", 2) + count("RAM32X1D", 2)
    lut_ram += count("RAM128X1D", 4) + count("SRL16E|SRLC32E")
    return {
        "lut": count(r"LUT[1-6]|INV") + lut_ram,
        "ff": count("FD[RSCP]E(_1)?"),
        "carry": count("CARRY8") + count("CARRY4") / 2,
        "dsp": count("DSP48E2"),
        "bram": count("RAMB36E2") + count("RAMB18E2") / 2,
        "uram": count("URAM288"),
    }


def total(areas):
    return {key: sum(a[key] for a in areas) for key in areas[0]}


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(header) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main():
    programs = Path(sys.argv[1]).resolve()
    lone, busy, speed = clocks(programs)
    hashes = {build: keccak_clocks(programs, build) for build in ("pipelined", "folded")}
    rate = CLOCK_MHZ * 1e6 / busy
    measured = table(
        ["measured in simulation", "clocks", f"at {CLOCK_MHZ} MHz"],
        [
            ["a lone recovery, doorbell to completion", f"{lone:,}", f"{lone / CLOCK_MHZ:,.0f} µs"],
            ["a recovery of a busy engine", f"{busy:,.0f}", f"{rate:,.0f} recoveries/s an engine"],
            ["Keccak-256 of 32 bytes, pipelined core", f"{hashes['pipelined']:.2f}", f"{CLOCK_MHZ / hashes['pipelined']:,.0f} M/s"],
            ["Keccak-256 of 32 bytes, folded core", f"{hashes['folded']:.2f}", f"{CLOCK_MHZ / hashes['folded']:,.1f} M/s"],
        ],
    )
    print(measured)
    print(f"\nThe simulation ran at {speed / 1e3:,.0f} thousand clocks a second with {ENGINES_SIMULATED} engines.")
    if not shutil.which("yosys"):
        sys.exit("yosys is not installed (`cargo xtask setup` installs it): no areas, docs/rtl.md unchanged")
    areas = {name: area(top, parameters, elsewhere) for name, top, parameters, elsewhere in BLOCKS}
    engine = total([areas[block[0]] for block in ENGINE])
    shared = total([areas[block[0]] for block in SHARED])
    row = lambda name, a: [name] + [f"{a[k]:,.1f}".removesuffix(".0") for k in ("lut", "ff", "carry", "dsp", "bram")]
    resources = table(
        ["block", "LUT", "FF", "CARRY8", "DSP48E2", "BRAM36"],
        [row(name, a) for name, a in areas.items()]
        + [row("**one recovery engine** (first four)", engine), row("**shared by all** (rings, folded Keccak)", shared)],
    )
    cards = []
    for name, lut, ff, dsp, bram in CARDS:
        limits = {"LUT": (lut, "lut"), "FF": (ff, "ff"), "DSP": (dsp, "dsp"), "BRAM": (bram, "bram")}
        fits = {what: int((have * UTILISATION - shared[key]) / engine[key]) for what, (have, key) in limits.items() if engine[key]}
        bound = min(fits, key=fits.get)
        cards.append([name, f"{lut:,}", f"{dsp:,}", f"{bram:,}", f"{fits[bound]}", bound, f"{fits[bound] * rate / 1e6:.2f} M/s"])
    per_card = table(["card", "LUT", "DSP48E2", "BRAM36", "engines", "bound by", "recoveries"], cards)
    print("\n" + resources + "\n\n" + per_card)
    text = DOC.read_text()
    for mark, content in (("clocks", measured), ("areas", resources), ("cards", per_card)):
        begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
        assert begin in text and end in text, mark
        text = text[: text.index(begin) + len(begin)] + "\n" + content + "\n" + text[text.index(end) :]
    DOC.write_text(text)


if __name__ == "__main__":
    main()
