//! Text with placeholders in braces, split up.

/// A part of such text.
pub enum Piece<'a> {
    /// Stands for itself; never empty.
    Text(&'a str),
    /// What stood between `{` and `}`.
    Placeholder(&'a str),
}

/// The pieces of `text` in order, or nothing if its braces do not pair.
#[must_use]
pub fn split(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    for (index, part) in text.split('{').enumerate() {
        let mut literal = part;
        if index > 0 {
            let (name, after) = part.split_once('}')?;
            pieces.push(Piece::Placeholder(name));
            literal = after;
        }
        if literal.contains('}') {
            return None;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
    }
    Some(pieces)
}
