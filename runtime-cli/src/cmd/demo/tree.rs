//! A tree of two levels in the lines of the box-drawing characters.

use coracle::error::escape;
use std::fmt;

/// Columns of the text.
const WIDTH: usize = 96;

/// A title, branches and their rows of name and value.
#[derive(Debug)]
pub struct Tree {
    title: String,
    branches: Vec<(String, Vec<(String, String)>)>,
}

impl Tree {
    /// A tree without branches.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), branches: Vec::new() }
    }

    /// Adds a branch with its rows.
    pub fn add(&mut self, name: &str, rows: Vec<(String, String)>) {
        self.branches.push((name.to_owned(), rows));
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", escape(&self.title))?;
        let width =
            self.branches.iter().flat_map(|(_, rows)| rows).map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or_default().min(24);
        for (at, (name, rows)) in self.branches.iter().enumerate() {
            let last = at + 1 == self.branches.len();
            writeln!(f, "{} {}", if last { "└─" } else { "├─" }, escape(name))?;
            let stem = if last { "   " } else { "│  " };
            for (at, (name, value)) in rows.iter().enumerate() {
                let (elbow, below) = if at + 1 == rows.len() { ("└─", "  ") } else { ("├─", "│ ") };
                let (name, value) = (escape(name), escape(value));
                write!(f, "{stem}{elbow} {name:<width$}  ")?;
                let column = 8 + width.max(name.chars().count());
                wrapped(f, &value, column, &format!("{stem}{below} {:width$}  ", ""))?;
            }
        }
        Ok(())
    }
}

/// Writes words into lines of [`WIDTH`]; the first begins in `column`, the others with `indent`.
fn wrapped(f: &mut fmt::Formatter<'_>, text: &str, column: usize, indent: &str) -> fmt::Result {
    let mut used = column;
    for (at, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && used + 1 + length > WIDTH {
            write!(f, "\n{indent}")?;
            used = indent.chars().count();
        } else if at > 0 {
            f.write_str(" ")?;
            used += 1;
        }
        f.write_str(word)?;
        used += length;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_rows_and_long_values() {
        let mut tree = Tree::new("web");
        let row = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        tree.add("one", vec![row("a", "1"), row("long name", &"word ".repeat(20))]);
        tree.add("two", vec![row("b", "x\ny")]);
        let text = tree.to_string();
        assert!(text.starts_with("web\n├─ one\n│  ├─ a          1\n│  └─ long name  word word"), "{text}");
        assert!(text.contains("word\n│                word "), "{text}");
        assert!(text.ends_with("└─ two\n   └─ b          x\\ny\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }
}
