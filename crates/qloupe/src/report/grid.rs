//! Aligned columns of text, with optional ANSI colours.

/// How a cell looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
    /// White on red: what nobody may overlook.
    Alarm,
}

impl Style {
    /// The text in this style.
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour || text.is_empty() => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Alarm => "1;97;41",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Where a cell sits in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
    /// Columns that the cell runs over.
    span: usize,
    /// Set to the right of its columns, where `span` is more than one.
    right: bool,
}

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, style: Style) -> Self {
        Self {
            text: printable(text.as_ref()),
            style,
            span: 1,
            right: false,
        }
    }

    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Style::Plain)
    }

    pub(crate) fn over(self, span: usize) -> Self {
        Self { span, ..self }
    }

    pub(crate) fn right(self) -> Self {
        Self { right: true, ..self }
    }
}

/// Rows of cells.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    align: Vec<Align>,
    rows: Vec<Vec<Cell>>,
}

impl Grid {
    pub(crate) fn new(align: Vec<Align>) -> Self {
        Self {
            align,
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Vec<Cell>>) {
        self.rows.extend(rows);
    }

    /// The rows as lines, two spaces between columns, nothing after the last cell. A cell over several columns does not
    /// widen them: the last column may overhang.
    pub(crate) fn lines(&self, indent: usize, colour: bool) -> Vec<String> {
        let widths = self.widths();
        self.rows
            .iter()
            .map(|row| self.line(row, &widths, indent, colour))
            .collect()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.align.len()];
        for row in &self.rows {
            let mut column = 0;
            for cell in row {
                if cell.span == 1 {
                    widths[column] = widths[column].max(width(&cell.text));
                }
                column += cell.span;
            }
        }
        widths
    }

    fn line(&self, row: &[Cell], widths: &[usize], indent: usize, colour: bool) -> String {
        let mut line = " ".repeat(indent);
        let mut column = 0;
        // Blanks are held back, so that none end a line.
        let mut held = 0;
        for cell in row {
            let columns = &widths[column..column + cell.span];
            let room: usize = columns.iter().sum::<usize>() + 2 * (cell.span - 1);
            let blank = room.saturating_sub(width(&cell.text));
            let right = cell.right || (cell.span == 1 && self.align[column] == Align::Right);
            if !cell.text.is_empty() {
                line.push_str(&" ".repeat(held + if right { blank } else { 0 }));
                line.push_str(&cell.style.paint(&cell.text, colour));
                held = if right { 2 } else { blank + 2 };
            } else {
                held += room + 2;
            }
            column += cell.span;
        }
        line
    }
}

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text without control characters: names come from model files and must not steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The text in at most `room` columns, shortened in the middle: both ends of a layer name matter.
pub(crate) fn shorten(text: &str, room: usize) -> String {
    let n = width(text);
    if n <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    // The end tells layers apart better than the beginning.
    let tail = kept - kept / 3;
    let head: String = text.chars().take(kept - tail).collect();
    let tail: String = text.chars().skip(n - tail).collect();
    format!("{head}…{tail}")
}

/// Lines of at most `room` columns, broken at spaces.
pub(crate) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in printable(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let mut grid = Grid::new(vec![Align::Left, Align::Right, Align::Left]);
        let cells = |texts: [&str; 3]| texts.map(Cell::plain).to_vec();
        grid.push(cells(["name", "n", ""]));
        grid.push(cells(["a", "100", "x"]));
        grid.push(vec![
            Cell::plain("b"),
            Cell::new("a long reason", Style::Dim).over(2),
        ]);
        assert_eq!(
            grid.lines(1, false),
            [" name    n", " a     100  x", " b     a long reason"]
        );
        assert_eq!(grid.lines(0, true)[2], "b     \x1b[2ma long reason\x1b[0m");
    }

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(
            shorten("/model.22/cv2.0/conv/Conv_output_0", 16),
            "/mode…v_output_0"
        );
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("abc", 0), "…");
    }

    #[test]
    fn names_do_not_steer_the_terminal() {
        assert_eq!(printable("a\x1b[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }

    #[test]
    fn text_breaks_at_spaces() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
    }
}
