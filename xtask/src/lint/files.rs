//! Rules that one file alone can break.

use super::Finding;
use super::source::{Source, has_word};

/// Most lines of a file, its tests not counted.
const MOST_LINES: usize = 600;

/// An outside thing and the only places that may name it.
struct Gate {
    name: &'static str,
    places: &'static [&'static str],
}

const GATES: &[Gate] = &[
    Gate {
        name: "aya",
        places: &["nexus-sidecar/src/fastpath"],
    },
    Gate {
        name: "aya_ebpf",
        places: &[
            "nexus-ebpf/",
            "crates/nexus-testkit/access-node/",
            "crates/nexus-testkit/traffic/",
        ],
    },
    Gate {
        name: "sled",
        places: &["crates/nexus-store/"],
    },
    Gate {
        name: "axum",
        places: &["nexus-server/src/http"],
    },
    Gate {
        name: "libp2p",
        places: &["crates/nexus-p2p/"],
    },
    Gate {
        name: "openraft",
        places: &["crates/nexus-quorum/"],
    },
    Gate {
        name: "redb",
        places: &["crates/nexus-quorum/"],
    },
    Gate {
        name: "rtnetlink",
        places: &["nexus-sidecar/src/routes"],
    },
];

const GRPC_CLIENT: Gate = Gate {
    name: "client",
    places: &["nexus-sidecar/src/centre"],
};
const GRPC_SERVER: Gate = Gate {
    name: "server",
    places: &["nexus-server/src/grpc"],
};

/// Where `unsafe` may stand: the kernel programs, and the gate to the maps.
const UNSAFE: &[&str] = &[
    "nexus-ebpf/",
    "crates/nexus-testkit/access-node/",
    "crates/nexus-testkit/traffic/",
    "nexus-sidecar/src/fastpath",
];

/// Macros that have no place in finished code; split, so that this file does not name them.
const MACROS: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
    concat!("db", "g!"),
];

/// Words of an unfinished comment.
const PROMISES: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// All findings in one file.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut find = |line, what: String| found.push(Finding::new(&source.path, line, what));
    if source.path.ends_with("/mod.rs") {
        find(
            1,
            "write `foo.rs` beside `foo/`, not `foo/mod.rs`".to_owned(),
        );
    }
    if !source.text.starts_with("//! ") {
        find(
            1,
            "begin the file with a `//!` sentence: what lives here and why".to_owned(),
        );
    }
    let lines = source.lines_without_tests();
    if !source.is_test() && lines > MOST_LINES {
        find(
            lines,
            format!("{lines} lines without tests; {MOST_LINES} is the most: split it"),
        );
    }
    for (number, line) in source.code_lines() {
        for gate in broken_gates(source, line) {
            let where_to = match gate.places {
                [] => {
                    "nothing needs it yet; give it one gate in xtask/src/lint/files.rs".to_owned()
                }
                places => format!("only {} may", places.join(", ")),
            };
            find(
                number,
                format!("`{}` behind its gate: {where_to}", gate.name),
            );
        }
    }
    for (number, line) in (1..).zip(source.code.lines()) {
        if let Some(found) = MACROS.iter().find(|name| line.contains(**name)) {
            find(number, format!("`{found}` is unfinished work"));
        }
        // An attribute such as `unsafe(no_mangle)` has no reason of its own to state.
        if has_word(line, "unsafe") && !line.contains("#[unsafe(") {
            if !at_one_of(&source.path, UNSAFE) {
                find(
                    number,
                    "`unsafe` is for the kernel programs and the map gate only".to_owned(),
                );
            } else if !has_safety_line(source, number) {
                find(
                    number,
                    "say in a `SAFETY:` line why this is sound".to_owned(),
                );
            }
        }
    }
    for (number, line) in (1..).zip(source.comments.lines()) {
        if let Some(word) = PROMISES.iter().find(|word| has_word(line, word)) {
            find(number, format!("`{word}`: do it now, or open an issue"));
        }
    }
    found
}

fn broken_gates<'a>(source: &Source, line: &str) -> Vec<&'a Gate> {
    let named = |name: &str| {
        line.contains(&format!("{name}::")) && has_word(line, name)
            || line.trim_start().starts_with(&format!("use {name}"))
    };
    let mut broken: Vec<&Gate> = GATES
        .iter()
        .filter(|gate| has_word(line, gate.name) && named(gate.name))
        .filter(|gate| !at_one_of(&source.path, gate.places))
        .collect();
    // Tests talk to either side of the protocol.
    if !source.is_test() && !source.path.starts_with("proto/") {
        let client = line.contains("nexus_client::") || line.contains("tonic::transport::Channel");
        let server =
            line.contains("nexus_server::Nexus") || line.contains("tonic::transport::Server");
        if client && !at_one_of(&source.path, GRPC_CLIENT.places) {
            broken.push(&GRPC_CLIENT);
        }
        if server && !at_one_of(&source.path, GRPC_SERVER.places) {
            broken.push(&GRPC_SERVER);
        }
    }
    broken
}

fn at_one_of(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// The reason stands in the lines above, or behind the code.
fn has_safety_line(source: &Source, number: usize) -> bool {
    let from = number.saturating_sub(9);
    source
        .comments
        .lines()
        .skip(from)
        .take(number - from)
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let source = Source::new(path, format!("//! A file.\n{text}"));
        check(&source)
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn a_gate_is_seen_outside_its_place_and_not_inside() {
        let text = "use sled::Db;\n";
        assert!(findings("crates/nexus-store/src/db.rs", text).is_empty());
        let found = findings("nexus-server/src/main.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("nexus-server/src/main.rs:2: `sled`"),
            "{found:?}"
        );
    }

    #[test]
    fn a_longer_name_is_not_the_gated_one() {
        assert!(findings("nexus-ebpf/src/main.rs", "use aya_ebpf::maps;\n").is_empty());
        assert_eq!(
            findings("nexus-server/src/x.rs", "use aya_ebpf::maps;\n").len(),
            1
        );
    }

    #[test]
    fn unsafe_needs_its_place_and_its_reason() {
        let bare = "fn f() { unsafe { g() } }\n";
        let reasoned = "// SAFETY: g has no conditions.\nfn f() { unsafe { g() } }\n";
        assert_eq!(findings("crates/nexus-core/src/x.rs", reasoned).len(), 1);
        assert_eq!(findings("nexus-ebpf/src/x.rs", bare).len(), 1);
        assert!(findings("nexus-ebpf/src/x.rs", reasoned).is_empty());
        assert!(findings("crates/nexus-core/src/x.rs", "// unsafe is a word\n").is_empty());
    }

    #[test]
    fn a_file_without_its_sentence_a_long_one_and_a_mod_rs_are_found() {
        let long = "fn f() {}\n".repeat(MOST_LINES + 1);
        let source = Source::new("crates/nexus-core/src/pool/mod.rs", long);
        let found: Vec<String> = check(&source).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_comments() {
        let text = format!("fn f() {{ {}() }}\n// {}: later\n", MACROS[0], PROMISES[0]);
        assert_eq!(findings("crates/nexus-core/src/x.rs", &text).len(), 2);
    }
}
