//! Draws lines in place, below everything that scrolls away.

use std::io::{self, Write};

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::queue;
use crossterm::terminal::{self, Clear, ClearType, DisableLineWrap, EnableLineWrap};

/// A region at the bottom of the terminal that is drawn again and again. Restores the terminal when
/// dropped.
pub struct Screen<W: Write> {
    out: W,
    /// Columns of each line on the screen now.
    drawn: Vec<usize>,
    /// The last frame and the terminal's columns then.
    last: (Vec<String>, usize),
    begun: bool,
}

impl<W: Write> Screen<W> {
    /// A region on `out`; nothing is written before the first frame.
    pub fn new(out: W) -> Self {
        Self { out, drawn: Vec::new(), last: (Vec::new(), 0), begun: false }
    }

    /// Columns and rows of the terminal; 80 by 24 where it does not tell.
    pub fn size() -> (usize, usize) {
        terminal::size().map_or((80, 24), |(columns, rows)| (usize::from(columns.max(1)), usize::from(rows.max(1))))
    }

    /// Replaces the region by `lines`, and lets `above` scroll away over it.
    pub fn draw(&mut self, above: &[String], lines: &[String], columns: usize) -> io::Result<()> {
        if self.begun && above.is_empty() && self.last.1 == columns && self.last.0 == lines {
            return Ok(());
        }
        self.last = (lines.to_vec(), columns);
        if !self.begun {
            self.begun = true;
            queue!(self.out, Hide)?;
        }
        self.erase(columns)?;
        for line in above {
            write!(self.out, "{line}\r\n")?;
        }
        queue!(self.out, DisableLineWrap)?;
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                write!(self.out, "\r\n")?;
            }
            write!(self.out, "{line}")?;
        }
        queue!(self.out, EnableLineWrap)?;
        self.drawn = lines.iter().map(|line| crate::output::width(&crate::output::clean_line(line))).collect();
        self.out.flush()
    }

    /// Leaves the last frame standing and gives the terminal back.
    pub fn finish(&mut self) -> io::Result<()> {
        if self.begun {
            self.begun = false;
            if !self.drawn.is_empty() {
                write!(self.out, "\r\n")?;
            }
            self.drawn.clear();
            queue!(self.out, Show)?;
            self.out.flush()?;
        }
        Ok(())
    }

    /// Clears what is drawn. A terminal made narrower since then has wrapped long lines.
    fn erase(&mut self, columns: usize) -> io::Result<()> {
        let columns = columns.max(1);
        let rows: usize = self.drawn.iter().map(|line| line.div_ceil(columns).max(1)).sum();
        if rows > 1 {
            queue!(self.out, MoveUp(u16::try_from(rows - 1).unwrap_or(u16::MAX)))?;
        }
        if rows > 0 {
            queue!(self.out, MoveToColumn(0), Clear(ClearType::FromCursorDown))?;
        }
        self.drawn.clear();
        Ok(())
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_replaces_the_last_one_also_after_the_terminal_got_narrower() {
        let mut out = Vec::new();
        {
            let mut screen = Screen::new(&mut out);
            screen.draw(&[], &["a".repeat(30), "b".to_owned()], 80).unwrap();
            screen.draw(&["stays".to_owned()], &["c".to_owned()], 10).unwrap();
            screen.draw(&[], &["c".to_owned()], 10).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        let second = text.split_once('b').unwrap().1;
        // 30 columns have become three rows of 10, and one below: the cursor goes up three.
        assert!(second.contains("\u{1b}[3A"), "{second:?}");
        assert!(second.contains("\u{1b}[J") && second.contains("stays\r\n"), "{second:?}");
        assert_eq!(second.matches('c').count(), 1, "the same frame is not drawn again");
        assert!(text.ends_with("\r\n\u{1b}[?25h"), "the cursor is given back: {text:?}");
    }
}
