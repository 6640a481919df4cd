//! Inputs that are no rows: what cannot be read, came too late, or was read by a run that is complete.

use lakehead_core::{Error, Micros, Patience, Result, format_micros};
use lakehead_plan::{NodeKind, OnMisfit, Plan};

use super::{Run, SourcePart, Summary, sink_plans};
use crate::event::Event;
use crate::reject::{MISFIT, Rejected};

impl Run<'_> {
    /// The run is complete, and perhaps died before its sources heard of it: what becomes of its inputs is theirs.
    pub(super) async fn acknowledge_again(&mut self, plan: &Plan, sources: Vec<SourcePart>) -> Result<()> {
        for SourcePart { node, mut source } in sources {
            let node = &plan.nodes[node];
            let arrives = matches!(&node.kind, NodeKind::Source(source) if source.arrives);
            let Some(read) = self.progress.sources.get(&node.name).filter(|_| arrives) else { continue };
            source.open(read).await?;
            source.acknowledge(read).await?;
            source.close().await?;
        }
        Ok(())
    }

    /// The tables hold what they held, in fewer files: no source is read. What fails ends the run, which is not complete then
    /// and is tried again.
    pub(super) async fn compact(&mut self) -> Result<Summary> {
        self.cut(true, false).await?;
        self.tend(Patience::ToEnd).await;
        Ok(std::mem::take(&mut self.summary))
    }

    pub(super) fn input_rejected(&mut self, number: usize, origin: String, reason: String) -> Result<()> {
        let letter = misfit(&self.readings[number].node, String::new(), reason, Some(origin));
        self.input_set_aside(number, letter)
    }

    pub(super) fn window_closed(&mut self, number: usize, origin: String, interval: (Micros, Micros)) -> Result<()> {
        let (start, end) = (format_micros(interval.0), format_micros(interval.1));
        let reason = format!("it came after its interval was closed, and is of {start} .. {end}");
        let letter = misfit(&self.readings[number].node, String::new(), reason, Some(origin));
        self.input_set_aside(number, Rejected { reason: "window_closed", ..letter })
    }

    fn input_set_aside(&mut self, number: usize, letter: Rejected) -> Result<()> {
        self.summary.inputs_rejected += 1;
        let (origin, reason) = (letter.source.clone().unwrap_or_default(), letter.error.clone().unwrap_or_default());
        self.tell(Event::InputRejected { origin, reason });
        self.readings[number].boundary = false;
        self.set_aside(vec![letter])
    }

    pub(super) fn misfits(&mut self, number: usize, rows: Vec<(String, String, String)>) -> Result<()> {
        let (node, policy) = (self.readings[number].node.clone(), self.readings[number].plan.on_misfit);
        self.readings[number].boundary = false;
        match (policy, rows.first()) {
            (OnMisfit::Fail, Some((_, reason, origin))) => {
                Err(Error::user("R0106", "a row does not fit the declared columns")
                    .with("node", node)
                    .with("at", origin)
                    .with("reason", reason)
                    .help("on_misfit = dead_letter   sets such rows aside; or correct `columns`"))
            }
            (OnMisfit::DeadLetter, _) => {
                // What does not fit has no key that could be read.
                let deletes = sink_plans(self.flow.plan()).any(|sink| sink.deletes_rejected);
                let more = if deletes { "; its key is not known: no row is deleted" } else { "" };
                self.note_rejected(rows.len());
                if self.flow.plan().dead_letter.is_some() {
                    for (raw, reason, origin) in &rows {
                        self.rejected.push_misfit(&node, raw, [reason, more], origin);
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn misfit(node: &str, raw: String, reason: String, source: Option<String>) -> Rejected {
    Rejected {
        node: node.to_owned(),
        reason: MISFIT,
        expectation: None,
        error: Some(reason),
        source,
        position: None,
        op: None,
        raw,
    }
}
