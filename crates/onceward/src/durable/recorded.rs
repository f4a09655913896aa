//! A run with its journal, outside of a store: lines of JSON that a test replays, and that another store takes in.
//!
//! ```text
//! {"onceward":"run","format":2,"id":"0197…","kind":"checkout","args":{"value":{"order":789}},…}
//! {"seq":0,"position":"0","op":"step","name":"reserve","phase":"value","data":{"value":"r-17"},"at":"…","token":…}
//! ```
//!
//! Bytes are kept exactly. They stand there as a value where writing it as JSON gives the same bytes again.

use onceward_core::job::{New, Origin, Payload, Policy, Record, Spec, State};
use onceward_core::run::{Entry, Op, Phase, Position, Start};
use onceward_core::{Code, Error, JobId, Kind, Namespace, Queue, Result, Tag, Timestamp, Token, limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{began, own_seed, seed};

/// The format that this program writes. It reads all up to this one.
const FORMAT: u32 = 2;

/// A run with its journal, as it was when it was taken out of its store: see
/// [`Admin::export_runs`](crate::Admin::export_runs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRun {
    pub(crate) id: JobId,
    pub(crate) kind: Kind,
    pub(crate) queue: Queue,
    pub(crate) priority: i16,
    pub(crate) tags: Vec<Tag>,
    pub(crate) state: State,
    pub(crate) parent: Option<JobId>,
    pub(crate) args: Payload,
    pub(crate) result: Option<Vec<u8>>,
    pub(crate) error: Option<String>,
    pub(crate) enqueued_at: Timestamp,
    /// What its code has from chance and from time; files of older programs don't say it.
    pub(crate) origin: Option<Origin>,
    /// When its time is over.
    pub(crate) deadline: Option<Timestamp>,
    /// What else was said about it; of files of format 1 nothing is known.
    pub(crate) spec: Option<Spec>,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    onceward: String,
    format: u32,
    id: String,
    kind: String,
    queue: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: i16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    content_type: String,
    args: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    enqueued_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<uuid::Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    began: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    /// As a row keeps it; since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Value>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    seq: u32,
    position: String,
    op: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    phase: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Bytes>,
    /// What the bytes say, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    says: Option<String>,
    at: String,
    token: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bytes {
    Value(Value),
    Text(String),
    Hex(String),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &i16) -> bool {
    *number == 0
}

impl Bytes {
    fn of(bytes: &[u8]) -> Self {
        let Ok(text) = core::str::from_utf8(bytes) else {
            return Self::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        };
        match serde_json::from_str::<Value>(text) {
            Ok(value) if serde_json::to_vec(&value).is_ok_and(|again| again == bytes) => Self::Value(value),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn read(self) -> Option<Vec<u8>> {
        match self {
            Self::Value(value) => serde_json::to_vec(&value).ok(),
            Self::Text(text) => Some(text.into_bytes()),
            Self::Hex(text) => {
                let digits: Option<Vec<u8>> = text
                    .chars()
                    .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
                    .collect();
                let (pairs, rest) = digits.as_deref()?.as_chunks::<2>();
                rest.is_empty().then(|| pairs.iter().map(|[high, low]| high * 16 + low).collect())
            }
        }
    }
}

impl RecordedRun {
    pub(crate) fn of(row: &Record, entries: Vec<Entry>) -> Self {
        Self {
            id: row.id,
            kind: row.kind.clone(),
            queue: row.queue.clone(),
            priority: row.priority,
            tags: row.tags.clone(),
            state: row.state,
            parent: row.parent,
            args: row.payload.clone(),
            result: row.said().and_then(|body| body.bytes.clone()),
            error: row.error.clone(),
            enqueued_at: row.enqueued_at,
            origin: Some(Origin { seed: seed(row), began: Some(began(row)) }),
            deadline: row.policy.deadline,
            spec: Some(row.spec()),
            entries,
        }
    }

    /// Which run it was.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Of which function.
    pub fn function(&self) -> &str {
        self.kind.as_str()
    }

    /// What it has done.
    pub fn journal(&self) -> &[Entry] {
        &self.entries
    }

    /// The runs that it has started.
    pub(crate) fn children(&self) -> impl Iterator<Item = JobId> {
        self.entries.iter().filter_map(|entry| match &entry.phase {
            Phase::Started(Start::Child { id, .. }) => Some(*id),
            _ => None,
        })
    }

    /// The same run as something to be enqueued.
    pub(crate) fn to_new(&self, namespace: Namespace) -> New {
        let seed = own_seed(&namespace, self.id);
        let mut new = New::of_kind(namespace, self.id, self.kind.clone(), self.args.clone());
        (new.queue, new.priority, new.tags) = (self.queue.clone(), self.priority, self.tags.clone());
        new.policy.timeout = limits::TIMEOUT_MAX;
        if let Some(spec) = &self.spec {
            new.policy = Policy { begins_after: None, ..spec.policy.clone() };
            (new.ordering_key, new.metadata) = (spec.ordering_key.clone(), spec.metadata.clone());
            (new.trace, new.depth, new.lines) = (spec.trace.clone(), spec.depth, spec.lines.clone());
        }
        new.policy.durable = true;
        let origin = self.origin.unwrap_or(Origin { seed, began: None });
        let began = origin.began.unwrap_or(self.enqueued_at);
        new.policy.origin = Some(Origin { began: Some(began), ..origin });
        new.policy.deadline = self.deadline;
        new.parent = self.parent;
        new
    }

    /// Its lines: one for the run, and one for each entry of its journal.
    ///
    /// # Errors
    /// None that is known: what a store holds can be written.
    pub fn to_lines(&self) -> Result<String> {
        let head = Head {
            onceward: "run".to_owned(),
            format: FORMAT,
            id: self.id.to_string(),
            kind: self.kind.as_str().to_owned(),
            queue: self.queue.as_str().to_owned(),
            priority: self.priority,
            tags: self.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            state: self.state.as_str().to_owned(),
            parent: self.parent.map(|parent| parent.to_string()),
            content_type: self.args.content_type.clone(),
            args: Bytes::of(&self.args.bytes),
            result: self.result.as_deref().map(Bytes::of),
            error: self.error.clone(),
            enqueued_at: self.enqueued_at.to_string(),
            seed: self.origin.map(|origin| origin.seed),
            began: self.origin.and_then(|origin| origin.began).map(|began| began.to_string()),
            deadline: self.deadline.map(|deadline| deadline.to_string()),
            spec: self
                .spec
                .as_ref()
                .and_then(Spec::to_text)
                .and_then(|text| serde_json::from_str(&text).ok()),
        };
        let mut lines = vec![serde_json::to_string(&head)];
        lines.extend(self.entries.iter().map(|entry| serde_json::to_string(&Line::of(entry))));
        let lines = lines.into_iter().collect::<core::result::Result<Vec<_>, _>>();
        let lines = lines.map_err(|error| unreadable(0, &error.to_string()))?;
        Ok(lines.join("\n") + "\n")
    }

    /// Reads the lines of one run or of several.
    ///
    /// # Errors
    /// [`RecordingUnreadable`](Code::RecordingUnreadable), with the number of the line.
    pub fn read(text: &str) -> Result<Vec<Self>> {
        let mut runs: Vec<Self> = Vec::new();
        for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let refuse = |why: &str| unreadable(number, why);
            let value: Value = serde_json::from_str(line).map_err(|error| refuse(&error.to_string()))?;
            if value.get("onceward").is_some() {
                let format = value.get("format").and_then(Value::as_u64).unwrap_or_default();
                if !(1..=u64::from(FORMAT)).contains(&format) {
                    return Err(refuse(&format!(
                        "format {format} is not known; this program reads up to {FORMAT}"
                    )));
                }
                let head: Head = serde_json::from_value(value).map_err(|error| refuse(&error.to_string()))?;
                runs.push(head.read().map_err(|error| refuse(&error.to_string()))?);
                continue;
            }
            let run =
                runs.last_mut().ok_or_else(|| refuse("an entry stands before the run that it is of"))?;
            let entry: Line = serde_json::from_value(value).map_err(|error| refuse(&error.to_string()))?;
            let entry = entry.read().ok_or_else(|| refuse("the entry is of a newer version, or damaged"))?;
            if entry.seq as usize != run.entries.len() {
                return Err(refuse(&format!("entry {} is missing", run.entries.len())));
            }
            run.entries.push(entry);
        }
        if runs.is_empty() {
            return Err(unreadable(1, "there is no run in it"));
        }
        Ok(runs)
    }
}

fn unreadable(line: usize, why: &str) -> Error {
    Error::new(Code::RecordingUnreadable, format!("line {line}: {why}"))
}

impl Head {
    fn read(self) -> Result<RecordedRun> {
        let bytes = |bytes: Bytes| bytes.read().ok_or_else(|| unreadable(0, "its bytes are damaged"));
        let state = State::from_word(&self.state)
            .ok_or_else(|| unreadable(0, &format!("{:?} is no state", self.state)))?;
        let began = self.began.map(|began| began.parse()).transpose()?;
        let origin = self.seed.map(|seed| Origin { seed, began });
        Ok(RecordedRun {
            id: self.id.parse()?,
            kind: Kind::new(&self.kind)?,
            queue: Queue::new(&self.queue)?,
            priority: self.priority,
            tags: self.tags.iter().map(Tag::new).collect::<Result<_>>()?,
            state,
            parent: self.parent.map(|parent| parent.parse()).transpose()?,
            args: Payload { bytes: bytes(self.args)?, content_type: self.content_type },
            result: self.result.map(bytes).transpose()?,
            error: self.error,
            enqueued_at: self.enqueued_at.parse()?,
            origin,
            deadline: self.deadline.map(|deadline| deadline.parse()).transpose()?,
            spec: self.spec.map(|spec| Spec::from_text(Some(&spec.to_string()))),
            entries: Vec::new(),
        })
    }
}

impl Line {
    fn of(entry: &Entry) -> Self {
        let data = entry.phase.data();
        Self {
            seq: entry.seq,
            position: entry.position.as_str().to_owned(),
            op: entry.op.as_str().to_owned(),
            name: entry.name.clone(),
            phase: entry.phase.word().to_owned(),
            says: match &entry.phase {
                Phase::Started(Start::Child { id, .. }) => Some(format!("run {id}")),
                Phase::Started(Start::Due(at)) => Some(format!("until {at}")),
                _ => None,
            },
            data: (!data.is_empty()).then(|| match &entry.phase {
                Phase::Started(_) => Bytes::Hex(data.iter().map(|byte| format!("{byte:02x}")).collect()),
                Phase::Ended(_) => Bytes::of(&data),
            }),
            at: entry.at.to_string(),
            token: entry.token.get(),
        }
    }

    fn read(self) -> Option<Entry> {
        let data = self.data.map_or_else(|| Some(Vec::new()), Bytes::read)?;
        Some(Entry {
            seq: self.seq,
            position: Position::from_row(self.position),
            op: Op::from_word(&self.op)?,
            name: self.name,
            phase: Phase::from_row(&self.phase, data)?,
            at: self.at.parse().ok()?,
            token: Token::from_row(self.token),
        })
    }
}
