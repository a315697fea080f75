//! Golden files: a request and its reply as text, each a part of its own.

use std::path::PathBuf;

use nexus_testkit::frame_text::{bytes, layout};

/// Set to `write`, the files are written instead of compared. What git then shows as changed is to
/// be read against the RFC before it is committed.
const SWITCH: &str = "NEXUS_GOLDEN";

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/packets")
        .join(format!("{name}.txt"))
}

/// Compares `request` and `reply` with the golden file `name`.
pub fn check(name: &str, request: &[u8], reply: &[u8]) {
    let path = path_of(name);
    if std::env::var(SWITCH).is_ok_and(|value| value == "write") {
        let text = format!("[request]\n{}\n[reply]\n{}", layout(request), layout(reply));
        std::fs::write(&path, text).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; {SWITCH}=write writes it", path.display());
    });
    let (golden_request, golden_reply) = text.split_once("[reply]\n").unwrap();
    let golden_request = golden_request.strip_prefix("[request]\n").unwrap();
    compare(name, "request", &bytes(golden_request).unwrap(), request);
    compare(name, "reply", &bytes(golden_reply).unwrap(), reply);
}

fn compare(name: &str, part: &str, golden: &[u8], found: &[u8]) {
    let differs = golden.iter().zip(found).position(|(a, b)| a != b);
    let at =
        differs.or_else(|| (golden.len() != found.len()).then(|| golden.len().min(found.len())));
    if let Some(at) = at {
        panic!(
            "{name}: the {part} differs from byte {at} on ({} bytes, golden {}):\n{}",
            found.len(),
            golden.len(),
            layout(found)
        );
    }
}
