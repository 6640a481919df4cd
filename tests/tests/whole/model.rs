//! A breadth-first model check of the commit loop and the epoch chain (delivery 3.3 and 3.12).
//!
//! Two daemons, either of which may crash or stand still and go on later; two tables; a source of three events whose
//! routing is chosen anew at each evaluation. Every interleaving is visited. In each state: no event is in the tables
//! twice, and what the source was told to forget is in the tables. In each state where nothing moves: every event is
//! there once. A mutant is the same model with one safety mechanism taken out; each must be caught.

use std::collections::{HashSet, VecDeque};

const EVENTS: u8 = 3;
const CRASHES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    AcknowledgeWhenStaged,
    AcknowledgeAtTheFirstTable,
    RecordAfterTheFirstCommit,
    RecoveryEvaluatesAgain,
    TablesAreNotFenced,
    FenceIsNotObeyed,
    TablesReadBeforeFenced,
    TablesReadAfterAllAreFenced,
    SeqIsNotCompared,
    NoTake,
    RecordsAreOverwritten,
    LostAnswerIsAFailure,
    NextRoundBeforeAllTables,
    ResumesFromTheSourceAlone,
}

/// Events by table, as bits.
type Outputs = [u8; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    take: bool,
    fence: u8,
    round: u8,
    end: u8,
    outputs: Outputs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Table {
    fence: u8,
    seq: u8,
    /// The position that the newest one-table round carries.
    document: u8,
    alone: bool,
    once: u8,
    twice: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    Down,
    /// Owns the chain up to `head`; tables below `table` are fenced.
    Fencing {
        table: u8,
    },
    /// Finishes the open record, table by table.
    Rolling {
        table: u8,
    },
    Ready,
    Staged {
        end: u8,
        outputs: Outputs,
    },
    Committing {
        end: u8,
        outputs: Outputs,
        table: u8,
        recorded: bool,
    },
    Done {
        end: u8,
    },
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Daemon {
    at: At,
    fence: u8,
    head: u8,
    open: u8,
    round: u8,
    position: u8,
    /// Seq and position of each table in the version of its fence commit. Not later: a newer owner may have gone on.
    seen: [(u8, u8); 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    chain: Vec<Record>,
    tables: [Table; 2],
    daemons: [Daemon; 2],
    acknowledged: u8,
    crashes: u8,
}

impl World {
    fn start() -> Self {
        let down = Daemon { at: At::Down, fence: 0, head: 0, open: 0, round: 0, position: 0, seen: [(0, 0); 2] };
        Self { chain: Vec::new(), tables: Default::default(), daemons: [down; 2], acknowledged: 0, crashes: 0 }
    }

    fn violation(&self) -> Option<&'static str> {
        let [a, b] = &self.tables;
        if a.twice | b.twice | (a.once & b.once) != 0 {
            return Some("an event is in the tables twice");
        }
        let forgotten = (1_u8 << self.acknowledged) - 1;
        let recorded = self.chain.iter().filter(|r| !r.take).fold(0, |all, r| all | r.outputs[0] | r.outputs[1]);
        if forgotten & !(a.once | b.once | recorded) != 0 {
            return Some("the source forgot an event that is in no table");
        }
        None
    }

    fn is_whole(&self) -> bool {
        self.tables[0].once | self.tables[1].once == (1 << EVENTS) - 1
    }
}

/// Writes a record at the place after the daemon's head; `None` where another is there.
fn append(world: &mut World, n: usize, record: Record, mutant: Mutant) -> bool {
    let head = usize::from(world.daemons[n].head);
    if world.chain.len() > head {
        if mutant == Mutant::RecordsAreOverwritten {
            world.chain[head] = record;
        } else {
            return false;
        }
    } else {
        world.chain.push(record);
    }
    world.daemons[n].head += 1;
    true
}

fn commit(world: &mut World, n: usize, table: usize, rows: u8, end: u8, alone: bool, mutant: Mutant) -> bool {
    let daemon = world.daemons[n];
    let target = &mut world.tables[table];
    if target.fence > daemon.fence && mutant != Mutant::FenceIsNotObeyed {
        return false;
    }
    if target.seq > daemon.round && mutant != Mutant::SeqIsNotCompared {
        return true;
    }
    target.twice |= target.once & rows;
    target.once |= rows;
    target.seq = daemon.round + 1;
    target.alone = alone;
    target.document = end;
    true
}

fn take(world: &World, n: usize, mutant: Mutant) -> World {
    let mut next = world.clone();
    let head = next.chain.len() as u8;
    let fence = next.chain.iter().map(|record| record.fence).max().unwrap_or(0) + 1;
    let open = next.chain.iter().rposition(|record| !record.take).map_or(0, |place| place as u8 + 1);
    next.daemons[n] = Daemon {
        at: At::Fencing { table: 0 },
        fence,
        head,
        open,
        round: 0,
        position: 0,
        seen: [0, 1].map(|table: usize| (next.tables[table].seq, next.tables[table].document)),
    };
    if mutant != Mutant::NoTake {
        let record = Record { take: true, fence, round: 0, end: 0, outputs: [0; 2] };
        append(&mut next, n, record, Mutant::None);
    }
    next
}

/// NEWEST: where the last complete or recorded round ends.
fn recover(world: &mut World, n: usize, mutant: Mutant) {
    let daemon = world.daemons[n];
    let open = (daemon.open > 0).then(|| world.chain[usize::from(daemon.open) - 1]);
    let recorded = open.map_or((0, 0), |record| (record.round, record.end));
    let seen = |table: usize| match mutant {
        Mutant::TablesReadAfterAllAreFenced => (world.tables[table].seq, world.tables[table].document),
        _ => daemon.seen[table],
    };
    let newest = [seen(0), seen(1)].into_iter().filter(|(seq, _)| *seq > recorded.0).max();
    let me = &mut world.daemons[n];
    if mutant == Mutant::ResumesFromTheSourceAlone {
        me.round = world.tables.iter().map(|table| table.seq).max().unwrap_or(0);
        me.position = world.acknowledged;
        me.at = At::Ready;
        return;
    }
    if let Some((seq, end)) = newest {
        (me.round, me.position, me.at) = (seq, end, At::Done { end });
    } else if let Some(record) = open {
        if mutant == Mutant::RecoveryEvaluatesAgain && world.tables.iter().any(|table| table.seq < record.round) {
            (me.round, me.position, me.at) = (record.round - 1, world.acknowledged, At::Ready);
        } else {
            (me.round, me.position, me.at) = (record.round - 1, record.end, At::Rolling { table: 0 });
        }
    } else {
        (me.round, me.position, me.at) = (0, 0, At::Ready);
    }
}

#[allow(clippy::too_many_lines, reason = "every transition of the model, to be read as one table")]
fn steps(world: &World, n: usize, mutant: Mutant) -> Vec<World> {
    let daemon = world.daemons[n];
    let mut all = Vec::new();
    let mut push = |at: At, change: &dyn Fn(&mut World)| {
        let mut next = world.clone();
        next.daemons[n].at = at;
        change(&mut next);
        all.push(next);
    };
    match daemon.at {
        At::Down => {
            if world.chain.len() < 9 {
                all.push(take(world, n, mutant));
            }
        }
        At::Fenced => {}
        At::Fencing { table: 2 } => push(At::Ready, &|next| recover(next, n, mutant)),
        At::Fencing { table } => {
            let found = world.tables[usize::from(table)].fence;
            if found > daemon.fence && mutant != Mutant::FenceIsNotObeyed {
                push(At::Fenced, &|_| {});
            } else {
                push(At::Fencing { table: table + 1 }, &|next| {
                    if mutant != Mutant::TablesAreNotFenced {
                        let fence = &mut next.tables[usize::from(table)].fence;
                        *fence = (*fence).max(daemon.fence);
                    }
                    if mutant != Mutant::TablesReadBeforeFenced {
                        let found = &next.tables[usize::from(table)];
                        next.daemons[n].seen[usize::from(table)] = (found.seq, found.document);
                    }
                });
            }
        }
        At::Rolling { table: 2 } => push(At::Done { end: daemon.position }, &|next| next.daemons[n].round += 1),
        At::Rolling { table } => {
            let record = world.chain[usize::from(daemon.open) - 1];
            let rows = record.outputs[usize::from(table)];
            push(At::Rolling { table: table + 1 }, &|next| {
                if rows != 0 && !commit(next, n, usize::from(table), rows, record.end, false, mutant) {
                    next.daemons[n].at = At::Fenced;
                }
            });
        }
        At::Ready => {
            for end in daemon.position + 1..=EVENTS.min(daemon.position + 2) {
                let range = ((1_u8 << end) - 1) & !((1_u8 << daemon.position) - 1);
                // Each event goes to either table; another evaluation may choose otherwise.
                for first in (0..=range).filter(|bits| bits & !range == 0) {
                    push(At::Staged { end, outputs: [first, range & !first] }, &|next| {
                        if mutant == Mutant::AcknowledgeWhenStaged {
                            next.acknowledged = next.acknowledged.max(end);
                        }
                    });
                }
            }
        }
        At::Staged { end, outputs } => {
            let alone = outputs[0] == 0 || outputs[1] == 0;
            let committing = At::Committing { end, outputs, table: 0, recorded: !alone };
            if alone || mutant == Mutant::RecordAfterTheFirstCommit {
                push(committing, &|_| {});
            } else {
                push(committing, &|next| record_round(next, n, end, outputs, mutant));
            }
        }
        At::Committing { end, table: 2, .. } => push(At::Done { end }, &|next| {
            next.daemons[n].round += 1;
            next.daemons[n].position = end;
        }),
        At::Committing { end, outputs, table, recorded } => {
            let rows = outputs[usize::from(table)];
            let going_on = At::Committing { end, outputs, table: table + 1, recorded };
            push(going_on, &|next| {
                if rows != 0 && !commit(next, n, usize::from(table), rows, end, !recorded, mutant) {
                    next.daemons[n].at = At::Fenced;
                }
                if mutant == Mutant::AcknowledgeAtTheFirstTable && !recorded {
                    next.acknowledged = next.acknowledged.max(end);
                }
                if mutant == Mutant::AcknowledgeAtTheFirstTable && table == 0 {
                    next.acknowledged = next.acknowledged.max(end);
                    next.chain.retain(|record| record.take || record.end != end);
                }
                if mutant == Mutant::RecordAfterTheFirstCommit
                    && recorded
                    && table == 0
                    && next.daemons[n].at == going_on
                {
                    record_round(next, n, end, outputs, mutant);
                }
            });
            if mutant == Mutant::LostAnswerIsAFailure && rows != 0 {
                push(At::Ready, &|next| {
                    commit(next, n, usize::from(table), rows, end, !recorded, mutant);
                    next.daemons[n].round += 1;
                });
            }
            if mutant == Mutant::NextRoundBeforeAllTables && table == 1 && end < EVENTS {
                push(At::Ready, &|next| {
                    next.daemons[n].round += 1;
                    next.daemons[n].position = end;
                });
            }
        }
        At::Done { end } => push(At::Ready, &|next| {
            next.acknowledged = next.acknowledged.max(end);
            next.daemons[n].position = end;
        }),
    }
    if daemon.at != At::Down && world.crashes < CRASHES {
        let mut next = world.clone();
        next.daemons[n].at = At::Down;
        next.crashes += 1;
        all.push(next);
    }
    all
}

fn record_round(world: &mut World, n: usize, end: u8, outputs: Outputs, mutant: Mutant) {
    let daemon = world.daemons[n];
    let record = Record { take: false, fence: daemon.fence, round: daemon.round + 1, end, outputs };
    if !append(world, n, record, mutant) {
        world.daemons[n].at = At::Fenced;
    }
}

/// Visits every state; returns how many there are, or the first violation.
fn explore(mutant: Mutant, most: usize) -> Result<usize, &'static str> {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([World::start()]);
    seen.insert(World::start());
    while let Some(world) = queue.pop_front() {
        if let Some(violation) = world.violation() {
            return Err(violation);
        }
        let next: Vec<World> = (0..2).flat_map(|n| steps(&world, n, mutant)).collect();
        let at_rest = world.daemons.iter().any(|d| d.at == At::Ready && d.position == EVENTS);
        if at_rest
            && !world.is_whole()
            && world.daemons.iter().all(|d| matches!(d.at, At::Ready | At::Fenced | At::Down))
        {
            return Err("everything is read, and an event is in no table");
        }
        if seen.len() >= most {
            return Ok(seen.len());
        }
        for world in next {
            if seen.insert(world.clone()) {
                queue.push_back(world);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_interleaving_of_two_daemons_loses_or_doubles_an_event() {
    let most = std::env::var("LAKEHEAD_MODEL_STATES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000_000);
    let states = explore(Mutant::None, most).unwrap();
    println!("{states} states");
    assert!(states > 1_000_000, "the model is too small: {states} states");
}

#[test]
fn every_safety_mechanism_taken_out_is_noticed() {
    let mutants = [
        Mutant::AcknowledgeWhenStaged,
        Mutant::AcknowledgeAtTheFirstTable,
        Mutant::RecordAfterTheFirstCommit,
        Mutant::RecoveryEvaluatesAgain,
        Mutant::TablesAreNotFenced,
        Mutant::FenceIsNotObeyed,
        Mutant::TablesReadBeforeFenced,
        Mutant::TablesReadAfterAllAreFenced,
        Mutant::SeqIsNotCompared,
        Mutant::NoTake,
        Mutant::RecordsAreOverwritten,
        Mutant::LostAnswerIsAFailure,
        Mutant::NextRoundBeforeAllTables,
        Mutant::ResumesFromTheSourceAlone,
    ];
    let survived: Vec<_> = mutants.into_iter().filter(|mutant| explore(*mutant, 2_000_000).is_ok()).collect();
    assert_eq!(survived, Vec::<Mutant>::new());
}
