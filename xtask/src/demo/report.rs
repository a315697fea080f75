//! The demo's timeline: steps with their evidence, for a person or as one JSON object.

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::console;

/// One step and what it showed.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Short name, the same in every run.
    pub name: &'static str,
    /// Whether everything in it held.
    pub ok: bool,
    /// What was seen, one line each.
    pub evidence: Vec<String>,
}

/// Where the timeline is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Standard output: a person reads it, or pipes it.
    Standard,
    /// Standard error: standard output is for something else.
    Error,
}

impl Out {
    /// Prints one line, or several.
    pub fn line(self, text: &str) {
        match self {
            Self::Standard => println!("{text}"),
            Self::Error => eprintln!("{text}"),
        }
    }
}

/// The steps so far; each line is printed when it happens.
pub struct Report {
    out: Out,
    began: Instant,
    steps: Vec<Step>,
}

impl Report {
    /// An empty timeline that begins now.
    pub fn new(out: Out) -> Self {
        Self {
            out,
            began: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// Begins a step.
    pub fn begin(&mut self, name: &'static str, title: &str) {
        let number = self.steps.len() + 1;
        let at = console::faint(&format!("{:6.2} s", self.began.elapsed().as_secs_f64()));
        self.out.line(&format!(
            "\n{at}  {}",
            console::bold(&format!("{number}  {title}"))
        ));
        self.steps.push(Step {
            name,
            ok: true,
            evidence: Vec::new(),
        });
    }

    /// Something that holds, and how one sees it.
    pub fn evidence(&mut self, line: impl Into<String>) {
        let line = line.into();
        self.out
            .line(&format!("{:12}{} {line}", "", console::tick()));
        self.add(line);
    }

    /// Something to look at that is neither right nor wrong: the lines of a dump.
    pub fn quote(&mut self, text: &str) {
        for line in text.lines() {
            self.out.line(&format!("{:14}{}", "", console::faint(line)));
            self.add(line.to_owned());
        }
    }

    /// Something that must hold; a cross and an error if it does not.
    pub fn expect(&mut self, holds: bool, line: impl Into<String>) -> Result<()> {
        let line = line.into();
        if !holds {
            bail!("does not hold: {line}");
        }
        self.evidence(line);
        Ok(())
    }

    /// The step that runs now did not hold.
    pub fn fail(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        for line in text.lines() {
            self.out.line(&format!(
                "{:12}{} {}",
                "",
                console::cross(),
                console::red(line)
            ));
        }
        self.add(text);
        if let Some(step) = self.steps.last_mut() {
            step.ok = false;
        }
    }

    /// All steps; those of `names` that were never begun are there too, as not reached.
    pub fn finish(mut self, names: &[&'static str]) -> Vec<Step> {
        for name in names {
            if !self.steps.iter().any(|step| step.name == *name) {
                let evidence = vec!["not reached".to_owned()];
                self.steps.push(Step {
                    name,
                    ok: false,
                    evidence,
                });
            }
        }
        let held = self.steps.iter().filter(|step| step.ok).count();
        let all = self.steps.len();
        let mark = if held == all {
            console::tick()
        } else {
            console::cross()
        };
        let seconds = self.began.elapsed().as_secs_f64();
        let sum = console::bold(&format!("{held} of {all} steps held, {seconds:.1} s"));
        self.out.line(&format!("\n{mark} {sum}"));
        self.steps
    }

    fn add(&mut self, line: String) {
        if let Some(step) = self.steps.last_mut() {
            step.evidence.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_failed_and_those_never_reached_are_not_ok() {
        let mut report = Report::new(Out::Error);
        report.begin("one", "First");
        report.evidence("seen");
        report.begin("two", "Second");
        let error = report.expect(false, "the sky is green").unwrap_err();
        report.fail(&error);
        let steps = report.finish(&["one", "two", "three"]);
        let ok: Vec<_> = steps.iter().map(|step| (step.name, step.ok)).collect();
        assert_eq!(ok, [("one", true), ("two", false), ("three", false)]);
        assert!(steps[1].evidence[0].contains("the sky is green"));
    }

    #[test]
    fn the_json_of_a_step_has_the_three_promised_fields() {
        let step = Step {
            name: "one",
            ok: true,
            evidence: vec!["seen".to_owned()],
        };
        let json = serde_json::to_string(&step).unwrap();
        assert_eq!(json, r#"{"name":"one","ok":true,"evidence":["seen"]}"#);
    }
}
