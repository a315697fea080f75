//! A Rust file split into what is code and what is comment, line by line.

/// One source file. Both texts have the lines of the file; what does not belong is blank.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// Without comments and without the contents of strings and characters.
    pub code: String,
    /// Comments only.
    pub comments: String,
}

impl Source {
    /// Splits a file.
    pub fn new(path: &str, text: String) -> Self {
        let (code, comments) = split(&text);
        Self {
            path: path.to_owned(),
            text,
            code,
            comments,
        }
    }

    /// Whether the whole file is test code.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
            || self.path.starts_with("crates/nexus-testkit/")
    }

    /// The lines before the file's own test module.
    pub fn lines_without_tests(&self) -> usize {
        let mut lines = self.code.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let module = lines
                .peek()
                .is_some_and(|(_, next)| next.starts_with("mod "));
            if line.starts_with("#[cfg(test)]") && module {
                return number;
            }
        }
        self.text.lines().count()
    }

    /// (line number from 1, text) of the code before the test module.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..)
            .zip(self.code.lines())
            .take(self.lines_without_tests())
    }
}

/// Whether `line` contains `word` standing alone.
pub fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(joins) && !after.is_some_and(joins)
    })
}

#[derive(Clone, Copy)]
enum State {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

fn split(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::new(), String::new());
    let mut state = State::Code;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (taken, next) = step(state, rest);
        let taken = taken.max(first.len_utf8());
        let (piece, behind) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        let in_comment = matches!(state, State::LineComment | State::BlockComment(_))
            || matches!(next, State::LineComment | State::BlockComment(_));
        let in_text = matches!(state, State::Text | State::RawText(_));
        for c in piece.chars() {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if in_comment || in_text { blank } else { c });
            comments.push(if in_comment { c } else { blank });
        }
        state = next;
        rest = behind;
    }
    (code, comments)
}

/// How many bytes to take from the start of `rest`, and the state behind them.
fn step(state: State, rest: &str) -> (usize, State) {
    let starts = |with: &str| rest.starts_with(with);
    match state {
        State::Code if starts("//") => (2, State::LineComment),
        State::Code if starts("/*") => (2, State::BlockComment(1)),
        State::Code if starts("\"") => (1, State::Text),
        State::Code if starts("'") => (character(rest), State::Code),
        State::Code if starts("r\"") || starts("r#") => {
            let hashes = rest.chars().skip(1).take_while(|c| *c == '#').count();
            let quote = rest
                .get(1 + hashes..)
                .is_some_and(|text| text.starts_with('"'));
            if quote {
                (hashes + 2, State::RawText(hashes))
            } else {
                (1, State::Code)
            }
        }
        State::Code => {
            // A whole word at once, so that the r of `for"` is not taken for a raw string.
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            (word.max(1), State::Code)
        }
        State::LineComment if starts("\n") => (1, State::Code),
        State::LineComment => (rest.find('\n').unwrap_or(rest.len()), State::LineComment),
        State::BlockComment(depth) if starts("/*") => (2, State::BlockComment(depth + 1)),
        State::BlockComment(1) if starts("*/") => (2, State::Code),
        State::BlockComment(depth) if starts("*/") => (2, State::BlockComment(depth - 1)),
        State::Text if starts("\\") => (2, State::Text),
        State::Text if starts("\"") => (1, State::Code),
        State::RawText(hashes) if starts(&format!("\"{}", "#".repeat(hashes))) => {
            (1 + hashes, State::Code)
        }
        other => (1, other),
    }
}

/// Length of a character literal; of a lifetime only the quote.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let behind = at + escaped.len_utf8();
            let end = rest.get(behind..).and_then(|text| text.find('\''));
            behind + end.map_or(0, |end| end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("x.rs", text.to_owned()).code
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text =
            "let a = \"sled::open // x\"; // aya::Ebpf\nlet b = '\"'; /* /* tonic */ */ c();";
        let code = code(text);
        assert!(!code.contains("sled") && !code.contains("aya") && !code.contains("tonic"));
        assert!(code.contains("let b") && code.contains("c();"), "{code}");
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let code = code("a(r#\"un\"safe\"#); b(r\"\\\"); c()");
        assert!(!code.contains("safe"), "{code}");
        assert!(code.contains("b(") && code.contains("c()"), "{code}");
    }

    #[test]
    fn a_lifetime_does_not_begin_a_character() {
        assert!(code("fn f<'a>(x: &'a str) { g('\\'', '\\u{1f}'); h() }").contains("h()"));
    }

    #[test]
    fn lines_stay_where_they_were() {
        let text = "a\n/* b\nc */ d\n\"e\nf\" g\n";
        let source = Source::new("x.rs", text.to_owned());
        assert_eq!(source.code.lines().count(), text.lines().count());
        assert_eq!(source.comments.lines().nth(1), Some("/* b"));
    }

    #[test]
    fn the_test_module_does_not_count() {
        let source = Source::new("x.rs", "a\nb\n#[cfg(test)]\nmod tests {\n}\n".to_owned());
        assert_eq!(source.lines_without_tests(), 2);
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("use sled::Db;", "sled"));
        assert!(!has_word("let unsled = 1; sleds()", "sled"));
    }
}
