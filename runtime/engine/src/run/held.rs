//! What the open round takes in memory, all tables together.

use std::collections::HashMap;

use lakehead_core::Result;

use super::SinkPart;

/// Bytes that each sink holds, as it said last.
#[derive(Debug, Default)]
pub(super) struct Held {
    of_sink: HashMap<usize, u64>,
    total: u64,
}

impl Held {
    /// Asks a sink that rows were staged in; beyond `bytes_max` in all of them, those that hold the most let go first.
    pub(super) async fn settle(&mut self, sinks: &mut [SinkPart], staged: usize, bytes_max: u64) -> Result<()> {
        self.note(sinks, staged);
        if self.total <= bytes_max {
            return Ok(());
        }
        let mut largest: Vec<(u64, usize)> = self.of_sink.iter().map(|(sink, bytes)| (*bytes, *sink)).collect();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        for (_, sink) in largest {
            if let Some(part) = sinks.get_mut(sink) {
                part.sink.let_go().await?;
            }
            self.note(sinks, sink);
            if self.total <= bytes_max {
                break;
            }
        }
        Ok(())
    }

    fn note(&mut self, sinks: &[SinkPart], number: usize) {
        let bytes = sinks.get(number).map_or(0, |part| part.sink.held_bytes());
        let before = self.of_sink.insert(number, bytes).unwrap_or(0);
        self.total = self.total - before + bytes;
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::RecordBatch;
    use arrow::datatypes::SchemaRef;
    use async_trait::async_trait;
    use lakehead_core::{Mark, Outcome, Prepared, Sink, SinkPosition};

    use super::*;

    /// Holds so many bytes, of which some stay.
    struct Holding {
        bytes: u64,
        stays: u64,
    }

    #[async_trait]
    impl Sink for Holding {
        async fn open(&mut self, _: u64) -> Result<SinkPosition> {
            unreachable!("no table")
        }
        async fn evolve(&mut self, _: &SchemaRef) -> Result<()> {
            Ok(())
        }
        async fn stage(&mut self, _: RecordBatch) -> Result<()> {
            Ok(())
        }
        async fn truncate(&mut self) -> Result<()> {
            Ok(())
        }
        async fn prepare(&mut self) -> Result<Option<Prepared>> {
            Ok(None)
        }
        async fn commit(&mut self, _: &Prepared, _: Mark) -> Result<Outcome> {
            unreachable!("no table")
        }
        async fn abort(&mut self) -> Result<()> {
            Ok(())
        }
        fn held_bytes(&self) -> u64 {
            self.bytes
        }
        async fn let_go(&mut self) -> Result<()> {
            self.bytes = self.stays;
            Ok(())
        }
    }

    async fn left(of_sinks: &[(u64, u64)], bytes_max: u64) -> Vec<u64> {
        let part = |&(bytes, stays): &(u64, u64)| SinkPart {
            node: None,
            table: String::new(),
            sink: Box::new(Holding { bytes, stays }),
            lake: true,
        };
        let mut sinks: Vec<SinkPart> = of_sinks.iter().map(part).collect();
        let mut held = Held::default();
        for number in 0..sinks.len() {
            held.settle(&mut sinks, number, bytes_max).await.unwrap();
        }
        sinks.iter().map(|part| part.sink.held_bytes()).collect()
    }

    #[tokio::test]
    async fn the_largest_lets_go_first_and_what_cannot_is_left_alone() {
        assert_eq!(left(&[(30, 0), (50, 0), (10, 0)], 100).await, [30, 50, 10], "all fit");
        assert_eq!(left(&[(30, 0), (50, 0), (10, 0)], 85).await, [30, 0, 10]);
        assert_eq!(left(&[(30, 0), (50, 0), (10, 0)], 35).await, [0, 0, 10]);
        assert_eq!(left(&[(60, 60), (50, 0)], 100).await, [60, 0], "what it cannot let go of stays");
    }
}
