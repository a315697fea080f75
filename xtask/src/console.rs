//! Marks and colours for a person; plain text where nobody looks at a terminal.

use std::io::IsTerminal as _;

/// Whether standard error is a terminal that wants colours.
fn coloured() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn paint(code: &str, text: &str) -> String {
    if coloured() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A tick.
pub fn tick() -> String {
    paint("32", "✓")
}

/// A cross.
pub fn cross() -> String {
    paint("31", "✗")
}

/// Something to see first.
pub fn bold(text: &str) -> String {
    paint("1", text)
}

/// Something to see last.
pub fn faint(text: &str) -> String {
    paint("2", text)
}

/// Something that did not hold.
pub fn red(text: &str) -> String {
    paint("31", text)
}
