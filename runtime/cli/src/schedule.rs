use lakehead_core::Result;
pub(crate) fn intervals(_: &lakehead_plan::Trigger, from: i64, to: i64) -> Result<Vec<(i64, i64)>> { Ok(vec![(from, to)]) }
pub(crate) fn latest_interval(_: &lakehead_plan::Trigger, now: i64) -> Result<(i64, i64)> { Ok((now - 300_000_000, now)) }
