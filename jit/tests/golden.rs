//! Golden tests: assembly in `golden/*.evm`, the CLIF that it must become beside it. `IRONLANE_BLESS=1` writes what comes
//! out as what is expected; read the difference before committing it.

use ironlane_jit::{
    Compiler, CompilerConfig, OptLevel, Target,
    asm::assemble,
    fuzz::{parse_spec, spec_name},
};
use revm::primitives::hardfork::SpecId;
use std::{fmt::Write as _, fs, path::Path};

/// A comment of this form in the assembly picks the rules.
const SPEC: &str = "; spec:";

fn render(name: &str, text: &str) -> String {
    let code = assemble(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let spec = text.lines().find_map(|line| line.strip_prefix(SPEC)).map_or(SpecId::OSAKA, |spec| {
        parse_spec(spec.trim()).unwrap_or_else(|| panic!("{name}: there is no fork{spec}"))
    });
    // The same on every machine of one architecture.
    let config = CompilerConfig {
        opt_level: OptLevel::Speed,
        target: Target::Generic,
        verify_ir: true,
        shadow_checks: false,
        ..CompilerConfig::default()
    };
    let compiler = Compiler::new(config).expect("this machine compiles");
    let inspection = compiler.inspect(&code, spec).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut out = format!("; {name}.evm, {}\n", spec_name(spec));
    for block in &inspection.blocks {
        let _ = writeln!(
            out,
            "; block {:#06x}..{:#06x} function {} gas {} need {} growth {} change {:+}",
            block.pc,
            block.end,
            block.region,
            block.gas,
            block.stack_need,
            block.stack_growth,
            block.stack_change
        );
    }
    for region in &inspection.regions {
        let _ = write!(out, "\n; function {}\n{}", region.index, region.clif);
    }
    out
}

#[test]
fn clif_is_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("IRONLANE_BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of golden tests")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "evm"))
        .collect();
    names.sort();
    for path in names {
        count += 1;
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let actual = render(&name, &text);
        let golden = path.with_extension("clif");
        if bless {
            fs::write(&golden, &actual).expect("writable");
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if expected != actual {
            let line = expected.lines().zip(actual.lines()).position(|(a, b)| a != b);
            let at = line.unwrap_or_else(|| expected.lines().count().min(actual.lines().count()));
            wrong.push(format!(
                "{name}: line {}: expected `{}`, got `{}`",
                at + 1,
                expected.lines().nth(at).unwrap_or("(the end)"),
                actual.lines().nth(at).unwrap_or("(the end)")
            ));
        }
    }
    assert!(count >= 6, "only {count} golden tests");
    assert!(
        wrong.is_empty(),
        "the CLIF changed; if it should have, run again with IRONLANE_BLESS=1 and read the difference:\n{}",
        wrong.join("\n")
    );
}
