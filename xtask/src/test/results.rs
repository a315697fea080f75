//! Reading what the Rust test harness prints.

/// How many tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That held.
    pub passed: usize,
    /// That did not.
    pub failed: usize,
    /// That did not run.
    pub skipped: usize,
}

/// The results of many test binaries, added up.
#[derive(Debug, Default)]
pub struct Results {
    /// All of them.
    pub counts: Counts,
    /// Names of those that failed.
    pub failures: Vec<String>,
}

impl Results {
    /// Takes in one line of output.
    pub fn read(&mut self, line: &str) {
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.counts.passed += count(summary, "passed");
            self.counts.failed += count(summary, "failed");
            self.counts.skipped += count(summary, "ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, "FAILED")) = test.rsplit_once(" ... ")
        {
            self.failures.push(name.to_owned());
        }
    }
}

/// The number before a word: 12 in "ok. 12 passed; 0 failed".
fn count(summary: &str, word: &str) -> usize {
    let mut before = "";
    for this in summary.split([' ', ';']).filter(|part| !part.is_empty()) {
        if this == word {
            return before.parse().unwrap_or(0);
        }
        before = this;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_binaries_add_up() {
        let mut results = Results::default();
        for line in [
            "running 3 tests",
            "test a::works ... ok",
            "test b::does - not ... FAILED",
            "test c::needs_root ... ignored, needs root",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished",
            "test result: ok. 20 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished",
        ] {
            results.read(line);
        }
        assert_eq!(
            results.counts,
            Counts {
                passed: 21,
                failed: 1,
                skipped: 1
            }
        );
        assert_eq!(results.failures, ["b::does - not"]);
    }
}
