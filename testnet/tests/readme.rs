//! The quick start of README.md, run as it is written.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};

use zero2ai_testnet::{Daemon, daemon::run, fixture};

/// The lines of the shell blocks in a section, without their comments.
fn commands(section: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(fixture("../../README.md")).unwrap();
    let start = readme.find(section).unwrap_or_else(|| panic!("README.md has no section '{section}'"));
    let rest = &readme[start + section.len()..];
    let section = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let line = |line: &str| line.split("  #").next().unwrap().trim().to_owned();
    blocks.flat_map(str::lines).map(line).filter(|line| !line.is_empty()).collect()
}

/// A command's words as they stand in a shell whose folder is `dir`, this repository being at hand.
fn words(line: &str, dir: &Path, keys: &[String]) -> Vec<String> {
    let all: Vec<&str> = line.split_whitespace().collect();
    let before = [""].iter().chain(&all);
    let word = |(before, word): (&&str, &&str)| {
        if let Some(number) = word.strip_prefix("KEY") {
            return keys[number.parse::<usize>().unwrap() - 1].clone();
        }
        if let Some(path) = word.strip_prefix("testnet/fixtures/") {
            return fixture(path).display().to_string();
        }
        // Files that the quick start makes or reads lie in the shell's folder.
        let is_file = word.ends_with(".cbor") || *before == "--join-file";
        if is_file { dir.join(word).display().to_string() } else { (*word).to_owned() }
    };
    before.zip(&all).map(word).collect()
}

#[test]
fn the_quick_start_works_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let home = |name: &str| -> PathBuf { dir.path().join(name) };
    let (mut nodes, mut keys, mut last) = (Vec::<Daemon>::new(), Vec::new(), String::new());
    let lines = commands("## Quick start");
    assert!(lines.len() >= 14, "{lines:?}");
    for line in lines {
        let (line, into) = match line.split_once('>') {
            Some((command, file)) => (command.trim().to_owned(), Some(home(file.trim()))),
            None => (line, None),
        };
        let line = line.trim_end_matches('&').trim().to_owned();
        let words = words(&line, dir.path(), &keys);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (at, rest) = match words[..] {
            ["zero2ai", "--home", at, ref rest @ ..] => (at, rest),
            ["zero2ai", ref rest @ ..] => ("nowhere", rest),
            _ => panic!("not a command of ours: {line}"),
        };
        if let ["up", extra @ ..] = rest {
            nodes.push(Daemon::up(&home(at), extra).unwrap());
            if at == "n2" {
                // "n3, n4 likewise"
                nodes.extend(["n3", "n4"].map(|at| Daemon::up(&home(at), extra).unwrap()));
                let shown = nodes[0].json(&["pool", "show"]).unwrap();
                let members = shown["members"].as_array().unwrap();
                keys = members.iter().map(|m| m["node"].as_str().unwrap().to_owned()).collect();
                assert_eq!(keys.len(), 4);
            }
            continue;
        }
        let ran = run(&home(at), rest).unwrap();
        assert_eq!(ran.code, 0, "{line}\n{}{}", ran.stdout, ran.stderr);
        if let Some(file) = into {
            std::fs::write(file, &ran.stdout).unwrap();
        }
        last = ran.stdout;
    }
    assert_eq!(nodes.len(), 4);
    assert!(last.contains("acme/digits"), "the last command shows the verified audit: {last}");
}
