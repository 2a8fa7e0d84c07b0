//! Rules that no compiler checks: short files, documented `unsafe`, links that lead somewhere, no paths of one machine.

use crate::report::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines past which a source file is two rooms in one.
const LINES_MAX: usize = 800;

/// Endings of source files.
const SOURCES: [&str; 7] = ["rs", "mjs", "js", "ts", "sol", "sh", "c"];

/// Files that must be there.
const REQUIRED: [&str; 5] = ["Cargo.lock", "LICENSE-MIT", "LICENSE-APACHE", "rustfmt.toml", ".ci/run"];

/// Beginnings of paths that exist on somebody's machine only. Cut in two, so that this file keeps its own rule.
const FOREIGN_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// Tidy as a step.
pub(crate) fn step(root: &Path) -> Outcome {
    let (files, complaints) = check(root);
    for complaint in &complaints {
        eprintln!("    {complaint}");
    }
    match complaints.len() {
        0 => Outcome::passed(format!("{files} files")),
        count => Outcome::failed(format!("{count} complaints, listed above")),
    }
}

/// Looks at every tracked file: (how many, what is wrong).
fn check(root: &Path) -> (usize, Vec<String>) {
    let mut complaints = Vec::new();
    let files = tracked(root);
    for required in REQUIRED.iter().filter(|file| !root.join(file).exists()) {
        complaints.push(format!("{required}: missing"));
    }
    for file in &files {
        // What is not text is not ours to judge; a file that was removed is on its way out of the index.
        let Ok(text) = std::fs::read_to_string(root.join(file)) else { continue };
        let name = file.display().to_string();
        complaints.extend(judge(&name, &text));
        if name.ends_with(".md") {
            complaints.extend(dead_links(root, file, &text));
        }
    }
    (files.len(), complaints)
}

/// Files that git tracks or would track; without git, nothing.
fn tracked(root: &Path) -> Vec<PathBuf> {
    let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(args).current_dir(root).output();
    let bytes = output.map(|output| output.stdout).unwrap_or_default();
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned())).collect()
}

/// What is wrong with one file.
fn judge(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let ending = name.rsplit('.').next().unwrap_or_default();
    let lines = text.lines().count();
    if SOURCES.contains(&ending) && lines > LINES_MAX {
        complaints.push(format!("{name}: {lines} lines; split it (at most {LINES_MAX})"));
    }
    if !name.ends_with("package-lock.json") {
        for (number, line) in text.lines().enumerate() {
            for path in FOREIGN_PATHS.iter().filter(|path| is_foreign(line, path)) {
                complaints.push(format!("{name}:{}: a path of one machine ({path}…)", number + 1));
            }
        }
    }
    if ending == "rs" {
        complaints.extend(undocumented_unsafe(name, text));
    }
    if name.ends_with("Cargo.toml") && text.contains("[package]") && name != "benches/fuzz/Cargo.toml" {
        let lints = text
            .split("[lints]")
            .nth(1)
            .is_some_and(|rest| rest.trim_start().starts_with("workspace = true"));
        if !lints {
            complaints.push(format!("{name}: `[lints] workspace = true` is missing"));
        }
    }
    complaints
}

/// Whether `line` holds a path that begins with `path` (and not a longer path or an address that contains it).
fn is_foreign(line: &str, path: &str) -> bool {
    let inside_a_longer_one = |at: usize| {
        let before = line[..at].chars().next_back();
        before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '}'))
    };
    line.match_indices(path).any(|(at, _)| !inside_a_longer_one(at))
}

/// `unsafe` needs the file's permission at its top and a reason at each place.
fn undocumented_unsafe(name: &str, text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(str::trim_start).collect();
    let begins = |line: &str| {
        ["unsafe {", "unsafe impl", "unsafe extern"].iter().any(|word| {
            line.find(word).is_some_and(|at| {
                // A function that is itself unsafe, or the type of one, documents what its callers owe.
                !line[at..].starts_with("unsafe extern \"C\" fn")
                    && !line[..at].contains("//")
                    && line[..at].matches('"').count().is_multiple_of(2)
            })
        })
    };
    let mut complaints = Vec::new();
    for (number, _) in code.iter().enumerate().filter(|(_, line)| begins(line)) {
        // The reason stands above the statement, which may have begun some lines before.
        let above = &code[number.saturating_sub(12)..number];
        if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
            complaints.push(format!("{name}:{}: unsafe without a SAFETY comment above it", number + 1));
        }
    }
    let any = code.iter().any(|line| begins(line));
    let permitted = code.iter().any(|line| line.contains("allow(unsafe_code)"));
    if any && !permitted {
        complaints
            .push(format!("{name}: unsafe in a file that does not begin with `#![allow(unsafe_code)]`"));
    }
    complaints
}

/// Relative links of a Markdown file that lead to no file.
fn dead_links(root: &Path, file: &Path, text: &str) -> Vec<String> {
    let folder = root.join(file.parent().unwrap_or(Path::new("")));
    let mut complaints = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                complaints.push(format!(
                    "{}:{}: the link to {target} leads nowhere",
                    file.display(),
                    number + 1
                ));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_tidy() {
        let (files, complaints) = check(&crate::workspace::root());
        assert!(files > 50, "git lists the project's files");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn each_rule_notices_its_breach() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert_eq!(judge("a.rs", &long).len(), 1);
        assert!(judge("a.md", &long).is_empty());
        let path = format!("see {}x", FOREIGN_PATHS[0]);
        assert_eq!(judge("docs/a.md", &path).len(), 1);
        assert!(judge("docs/a.md", "https://example.org/wo\u{72}k/x").is_empty());
        let bare = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(judge("a.rs", bare).len(), 2, "no permission and no reason");
        let fine = "#![allow(unsafe_code)]\nfn f() {\n    // SAFETY: g has no preconditions.\n    unsafe { g() }\n}\n";
        assert!(judge("a.rs", fine).is_empty());
        assert!(judge("a.rs", "// unsafe { } in a comment\nlet s = \"unsafe { }\";\n").is_empty());
        assert_eq!(judge("x/Cargo.toml", "[package]\nname = \"x\"\n").len(), 1);
        assert!(judge("x/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n").is_empty());
    }

    #[test]
    fn dead_links_are_found() {
        let root = crate::workspace::root();
        let text =
            "[a](Cargo.toml) [b](nowhere.md) [c](https://x.org) [d](#here) [e](docs/ARCHITECTURE.md#rooms)";
        let complaints = dead_links(&root, Path::new("README.md"), text);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("nowhere.md"));
        assert!(dead_links(&root, Path::new("README.md"), "```\n[b](nowhere.md)\n```").is_empty());
    }
}
