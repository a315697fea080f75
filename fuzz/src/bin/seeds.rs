//! Writes the inputs that a target begins with: `seeds <target> <folder>`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let target = arguments.next().as_deref().and_then(nexus_fuzz::target);
    let (Some(target), Some(folder)) = (target, arguments.next().map(PathBuf::from)) else {
        return Err(std::io::Error::other("use: seeds <target> <folder>"));
    };
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in (target.seeds)().into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
    }
    Ok(())
}
