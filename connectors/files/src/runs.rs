//! Lines of JSON: those of one shape many at a time, each other one by itself.

use crate::columns::Columns;
use crate::grid::Limit;
use crate::marks::{self, WINDOW_BYTES};
use crate::members::Members;
use crate::rows::Column;
use crate::shape::{Run, Shape};

/// Lines of one shape behind one another that are worth the look for them.
const RUN_LINES_MIN: usize = 4;
/// Lines that are read together at first.
const RUN_LINES_FIRST: usize = 16;
/// Lines that are read by themselves at most before the next look for a shape.
const PAUSE_LINES_MAX: usize = 1024;

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines {
    members: Members,
    shape: Option<Shape>,
    /// What is marked in the part of the block that was looked at, where that ends, and the first mark that is not behind.
    marks: Vec<u32>,
    looked: usize,
    next: usize,
    /// Whether a line was looked at that has another shape.
    missed: bool,
    /// Lines to be read by themselves, now and after the next look in vain.
    pause: usize,
    next_pause: usize,
    /// Lines to be read together at most: twice as many as the last time, for where one is not plain, the columns before the one
    /// it is told by were read for all in vain.
    run_lines_max: usize,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self {
            members: Members::new(),
            shape: None,
            marks: Vec::new(),
            looked: 0,
            next: 0,
            missed: false,
            pause: 0,
            next_pause: 0,
            run_lines_max: RUN_LINES_FIRST,
        }
    }

    /// Goes on with the next block.
    pub(crate) fn restart(&mut self) {
        (self.looked, self.next) = (0, 0);
        self.marks.clear();
    }

    /// Reads lines from `at` on into new rows of `filling`, whose columns are `columns`, as many as are of one shape. `None` where
    /// the next line is to be read by itself.
    pub(crate) fn read_run(
        &mut self,
        text: &str,
        at: usize,
        limit: Limit,
        columns: &[&Column],
        filling: &mut Columns,
    ) -> Option<Run> {
        self.missed = false;
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let run = self.find_run(text, at, limit, columns, filling);
        match &run {
            Some(run) if run.lines >= RUN_LINES_MIN => self.next_pause = 0,
            Some(_) => {}
            None => {
                self.missed = true;
                self.pause = self.next_pause;
                self.next_pause = (self.next_pause * 2 + 1).min(PAUSE_LINES_MAX);
            }
        }
        run
    }

    fn find_run(
        &mut self,
        text: &str,
        at: usize,
        limit: Limit,
        columns: &[&Column],
        filling: &mut Columns,
    ) -> Option<Run> {
        let shape = self.shape.as_ref()?;
        let bounds = (limit.rows.min(self.run_lines_max), at.saturating_add(limit.bytes));
        self.next += self.marks[self.next..].iter().take_while(|mark| (**mark as usize) < at).count();
        if self.marks.len() - self.next < shape.marks() && self.looked < text.len() {
            self.looked = text.len().min(at.saturating_add(WINDOW_BYTES));
            marks::look(marks::Member, text.as_bytes(), at, self.looked, &mut self.marks);
            self.next = 0;
        }
        let run = shape.read(text, at, &self.marks[self.next..], bounds, columns, filling);
        self.next += run.lines * shape.marks();
        let most = if run.is_cut { run.lines } else { self.run_lines_max };
        self.run_lines_max = (2 * most).clamp(RUN_LINES_FIRST, WINDOW_BYTES);
        (run.lines > 0).then_some(run)
    }

    /// Reads a line by itself into a new row, as [`Members::read`] does.
    pub(crate) fn read(&mut self, line: &str, columns: &[&Column], filling: &mut Columns) -> Option<()> {
        self.members.read(line, columns, filling)?;
        // Lines that follow may be like this one.
        if self.missed {
            self.shape = Shape::of(line, columns);
        }
        Some(())
    }
}
