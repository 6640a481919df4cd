//! Words that made-up texts are put together from.

/// Words of sentences.
pub(crate) static WORDS: [&str; 48] = [
    "request",
    "served",
    "from",
    "cache",
    "after",
    "retry",
    "connection",
    "closed",
    "by",
    "peer",
    "user",
    "signed",
    "in",
    "order",
    "placed",
    "payment",
    "taken",
    "timeout",
    "while",
    "reading",
    "the",
    "queue",
    "is",
    "growing",
    "worker",
    "started",
    "job",
    "finished",
    "with",
    "warnings",
    "disk",
    "almost",
    "full",
    "index",
    "rebuilt",
    "token",
    "expired",
    "session",
    "renewed",
    "rate",
    "limit",
    "reached",
    "upstream",
    "slow",
    "checkpoint",
    "written",
    "page",
    "loaded",
];

/// First names.
pub(crate) static FIRST_NAMES: [&str; 24] = [
    "Ada", "Alan", "Amina", "Barbara", "Chen", "Diego", "Edsger", "Fatima", "Grace", "Hana", "Ivan", "Joan", "Ken",
    "Leslie", "Maria", "Niklaus", "Olga", "Priya", "Radia", "Sofia", "Tomas", "Ursula", "Wei", "Yuki",
];

/// Last names.
pub(crate) static LAST_NAMES: [&str; 24] = [
    "Adams", "Bauer", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Hopper", "Ito", "Jensen", "Kowalski",
    "Liskov", "Moreau", "Novak", "Okafor", "Perlman", "Rossi", "Silva", "Tanaka", "Ueda", "Vogel", "Wang", "Yilmaz",
    "Zhou",
];

/// Domains that RFC 2606 keeps for examples: no mail to them reaches anybody.
pub(crate) static DOMAINS: [&str; 3] = ["example.com", "example.net", "example.org"];
