//! The program as a person runs it: what is wrong is said plainly, and the exit code is not zero.

#[cfg(test)]
#[path = "cli/bad_input.rs"]
mod bad_input;
#[cfg(test)]
#[path = "cli/deploy.rs"]
mod deploy;
#[cfg(test)]
#[path = "cli/program.rs"]
mod program;
