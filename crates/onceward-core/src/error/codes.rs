//! The table of codes. A code is never renumbered and never reused; its page lies beside it in `pages/`.

use core::fmt;
use core::str::FromStr;

use super::{Error, Fault};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $fault:ident, $title:literal;)*) => {
        /// A stable error code such as `OW0101`, with a page compiled in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = concat!("`", $code, "`: ", $title, ".")] $(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as written: `OW0101`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the code means, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Who has to act.
            pub const fn fault(self) -> Fault {
                match self { $(Self::$name => Fault::$fault,)* }
            }

            /// The page of the code, in Markdown: what happened, whose fault, what to do, an example.
            pub const fn page(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("pages/", $code, ".md")),)* }
            }
        }
    };
}

codes! {
    // 00xx: reaching and opening a store.
    StoreUnavailable = "OW0001", Operator, "the store can't be reached";
    StoreBusy = "OW0002", Operator, "the store is too busy to answer in time";
    CommitUnknown = "OW0003", Operator, "a write was sent and no answer came";
    StoreUrlInvalid = "OW0004", Caller, "the store URL is not one of ours";
    StoreFailed = "OW0005", Operator, "the store refused a statement";
    SchemaBehind = "OW0006", Operator, "the schema is older than this program needs";
    SchemaAhead = "OW0007", Operator, "the schema is newer than this program understands";
    MigrationChanged = "OW0008", Operator, "an applied migration differs from the one in this program";
    RowUnreadable = "OW0009", Onceward, "a row can't be read back";
    StoreClosed = "OW0010", Caller, "the client has been shut down";
    DriverMissing = "OW0011", Caller, "this program was built without that database";
    LaneFull = "OW0012", Caller, "too many callers are waiting at once";
    TlsFailed = "OW0013", Operator, "no trusted TLS connection to the store";

    // 01xx: input refused at the edge.
    KeyInvalid = "OW0101", Caller, "the key is empty, too long, or holds a control character";
    NamespaceInvalid = "OW0102", Caller, "the namespace is empty, too long, or holds a control character";
    TtlInvalid = "OW0103", Caller, "the ttl is out of range";
    HardTtlInvalid = "OW0104", Caller, "the hard ttl is out of range";
    DurationInvalid = "OW0105", Caller, "the text is not a duration";
    SchemaNameInvalid = "OW0106", Caller, "the schema name is not allowed";
    OwnerInvalid = "OW0107", Caller, "the owner name is empty, too long, or holds a control character";
    MetadataInvalid = "OW0108", Caller, "the metadata is too long";
    RetainInvalid = "OW0109", Caller, "the retention is out of range";
    TokenInvalid = "OW0110", Caller, "the text is not a fencing token";
    CapacityInvalid = "OW0111", Caller, "the number of holders is out of range";
    LockDelayInvalid = "OW0112", Caller, "the lock delay is out of range";
    KeysInvalid = "OW0113", Caller, "the list of keys is empty, too long, or names one twice";
    PageInvalid = "OW0114", Caller, "the page size is out of range";
    ReasonMissing = "OW0115", Caller, "this action wants a reason";
    WaitInvalid = "OW0116", Caller, "the waiting time is out of range";

    KindInvalid = "OW0117", Caller, "the kind of a job is empty, too long, or holds a control character";
    QueueInvalid = "OW0118", Caller, "the queue name is empty, too long, or holds a control character";
    PayloadTooLarge = "OW0119", Caller, "the payload is too large";
    PriorityInvalid = "OW0120", Caller, "the priority is out of range";
    AttemptsInvalid = "OW0121", Caller, "the number of attempts is out of range";
    DelayInvalid = "OW0122", Caller, "the delay or the time is out of range";
    RetryPolicyInvalid = "OW0123", Caller, "the retry policy can't be understood";
    TimeoutInvalid = "OW0124", Caller, "the time-out of an attempt is out of range";
    TagsInvalid = "OW0125", Caller, "a tag is malformed, or there are too many";
    JobIdInvalid = "OW0126", Caller, "the text is not the id of a job";
    LimitInvalid = "OW0127", Caller, "the limit is out of range";
    OptionInvalid = "OW0128", Caller, "an option of a job is unknown or can't be read";

    // 02xx: leases.
    LeaseHeld = "OW0201", Race, "another holder has the lease";
    LeaseLost = "OW0202", Race, "the lease was lost";
    TokenStale = "OW0203", Race, "the fencing token is no longer the current one";
    FenceHeaderInvalid = "OW0205", Caller, "the fence header is missing or unreadable";

    // 03xx: once.
    FingerprintMismatch = "OW0301", Caller, "the key was used before with a different request";
    OnceRunning = "OW0302", Race, "another worker is running this key";
    OnceUncertain = "OW0303", Operator, "nobody knows whether the work of this key was done";
    SettleStale = "OW0304", Race, "the outcome came too late to be recorded";
    NotUncertain = "OW0305", Caller, "only an uncertain key can be resolved";
    ResultUnreadable = "OW0306", Caller, "the recorded result is not of the type asked for";
    ResultUnwritable = "OW0307", Caller, "the result can't be written as JSON";
    KeyLocked = "OW0308", Race, "an open transaction holds the key";
    KeyAbsent = "OW0309", Caller, "there is no such key";
    OnceFailed = "OW0310", Caller, "the work failed or was not started";

    // 04xx: the self-check at start.
    FsyncOff = "OW0401", Operator, "PostgreSQL runs with fsync or full_page_writes off";
    EncodingWrong = "OW0402", Operator, "the database is not UTF-8";
    SqliteTooOld = "OW0403", Operator, "this SQLite can corrupt a shared file";
    FilesystemUnsafe = "OW0404", Operator, "the file lies on a network file system";
    RightsMissing = "OW0405", Operator, "the database user lacks a right";
    StoreReadOnly = "OW0406", Operator, "the database is a standby or read-only";
    FileReplaced = "OW0407", Operator, "the database file was replaced while open";
    ClockInconsistent = "OW0408", Operator, "the processes of one file don't share a clock";
    CommitNotDurable = "OW0409", Operator, "commits would not be durable";
    PostgresTooOld = "OW0410", Operator, "this PostgreSQL is too old";
    TimelineBehind = "OW0411", Operator, "this server is not the one that was promoted";
    ClockBehind = "OW0412", Operator, "the database clock is behind the last grant";
    FileUnsafe = "OW0413", Operator, "others may read or replace the database file";
    SchemaObjectForeign = "OW0414", Operator, "something else lives where our tables should be";

    // 05xx: the HTTP layer.
    IdempotencyKeyMissing = "OW0501", Caller, "the request needs an Idempotency-Key";
    IdempotencyKeyInvalid = "OW0502", Caller, "the Idempotency-Key is malformed";
    RequestTooLarge = "OW0503", Caller, "the request body is too large to fingerprint";

    // 07xx: jobs.
    JobAbsent = "OW0701", Caller, "there is no such job";
    JobKeyMismatch = "OW0702", Caller, "the idempotency key was used before for another job";
    JobStateWrong = "OW0703", Caller, "the job is not in a state that allows this";
    AttemptStale = "OW0704", Race, "the attempt is no longer the current one";
    SessionLost = "OW0705", Race, "the worker's session has run out";
    PayloadUnreadable = "OW0706", Caller, "the payload is not what the handler expects";
    PayloadUnwritable = "OW0707", Caller, "the payload can't be written as JSON";
    HandlerTwice = "OW0708", Caller, "two handlers want the same kind of job";
    WorkerIdle = "OW0709", Caller, "the worker has no handler or no queue";
    StateMissing = "OW0710", Caller, "a handler wants a state that the worker was not given";
    ProgressInvalid = "OW0711", Caller, "what a handler says of its progress is too long, or of another type";
    JobKeyTaken = "OW0712", Caller, "another job has the dedupe key of this one";

    // 09xx: durable functions.
    RunAbsent = "OW0901", Caller, "a durable call was awaited outside of a durable function";
    RunNested = "OW0902", Caller, "a durable call was awaited inside the body of a step";
    RunStuck = "OW0903", Caller, "the code of a durable function differs from its journal";
    JournalFull = "OW0904", Caller, "the journal of a run is full";
    JournalUnreadable = "OW0905", Caller, "a journal holds what this program can't read";
    StepUnwritable = "OW0906", Caller, "what a step returns can't be written down";
    RunUnknown = "OW0907", Caller, "there is no such run";
    RunEnded = "OW0908", Caller, "the run has ended";
    StepNameInvalid = "OW0909", Caller, "the name of a step or a signal is refused";
    StepNotCommitted = "OW0910", Caller, "a step has not committed what it wrote";
    RunContinueRefused = "OW0911", Caller, "a run can't go on as new here";
    RunCallRefused = "OW0912", Caller, "a durable function can't be called like this";

    // 08xx: HTTP jobs and webhooks.
    UrlInvalid = "OW0801", Caller, "the URL can't be understood, or is too long";
    UrlSchemeRefused = "OW0802", Caller, "this kind of URL is not allowed";
    UrlCredentials = "OW0803", Caller, "the URL holds a user name or a password";
    PortRefused = "OW0804", Caller, "the port is not allowed";
    AddressRefused = "OW0805", Caller, "the receiver has an address that is not allowed";
    HostNotAllowed = "OW0806", Caller, "the receiver is not on the list of allowed hosts";
    MethodInvalid = "OW0807", Caller, "the method is not allowed";
    HeaderInvalid = "OW0808", Caller, "a header is malformed, reserved, or too large";
    HeaderSecret = "OW0809", Caller, "a header holds a secret and would be kept in the clear";
    RequestBodyInvalid = "OW0810", Caller, "the body does not fit the request";
    HttpRequestUnreadable = "OW0811", Caller, "the payload is not an HTTP request";
    AllowListMissing = "OW0812", Operator, "in production the allowed hosts have to be named";
    SigningSecretInvalid = "OW0813", Caller, "the signing secret can't be used";
    SignatureWrong = "OW0814", Caller, "the signature of a webhook does not fit";
    SignatureStale = "OW0815", Caller, "the webhook was signed too long ago, or in the future";
    SealKeyInvalid = "OW0816", Operator, "there is no usable key to encrypt secrets with";
    SealBroken = "OW0817", Operator, "an encrypted secret can't be opened";
    HttpTlsUnusable = "OW0818", Operator, "requests can't be sent over TLS";
    SigningKeyMissing = "OW0819", Operator, "the delivery lacks the key that a request is signed with";
    EndpointNameInvalid = "OW0820", Caller, "the name of an endpoint is empty, too long, or has control characters";
    EndpointUnknown = "OW0821", Caller, "there is no endpoint of this name";
    EndpointExists = "OW0822", Caller, "there is an endpoint of this name";
    EndpointInvalid = "OW0823", Caller, "an endpoint can't be set to this";
    EndpointMoved = "OW0824", Race, "the endpoint was changed by somebody else at the same time";
    EventTypeInvalid = "OW0825", Caller, "the type of an event, or a pattern of types, can't be read";
    EventUnreadable = "OW0826", Caller, "the payload is not an event";
    SigningKeyNameInvalid = "OW0827", Caller, "the name of a signing key is empty, too long, or not plain";


    // 085x: testing durable functions, and their command line.
    RunNotSurvived = "OW0850", Caller, "a run did not survive a crash test";
    RunNotIdle = "OW0851", Caller, "a test waits for a run that nothing will bring on";
    RecordingUnreadable = "OW0852", Caller, "a recorded run can't be read";
    RecordingRefused = "OW0853", Caller, "a recorded run can't be taken in now";
    FunctionsUnknown = "OW0854", Caller, "this program has no durable functions to check with";
    RunsDiffer = "OW0855", Caller, "runs under way would not go on with this program";
    RunForkRefused = "OW0856", Caller, "a run can't be begun once more there";

    // 06xx: the command line.
    UsageInvalid = "OW0601", Caller, "the command line can't be understood";
    CommandNotStarted = "OW0602", Caller, "the command could not be started";
    CodeUnknown = "OW0603", Caller, "there is no such error code";
    AuditFailed = "OW0604", Onceward, "the demo's audit does not hold";
    StatusFileFailed = "OW0605", Caller, "the status file can't be written";
    CommandsFileInvalid = "OW0606", Caller, "the file of allowed commands can't be read";

    // 10xx: services and schedules.
    ServiceNameInvalid = "OW1001", Caller, "the name of a service is empty, too long, or has control characters";
    IntervalInvalid = "OW1002", Caller, "an interval is too short, too long, or shorter than what checks it";
    MarginInvalid = "OW1003", Caller, "the spread margin leaves nothing of the interval";
    ServiceUnknown = "OW1004", Caller, "there is no service of this name";
    TermLost = "OW1005", Race, "the term of a service ended before its work did";
    ServiceTwice = "OW1006", Caller, "two services of one process have the same name";
    RunnerIdle = "OW1007", Caller, "a runner was given no service";
    CatchUpInvalid = "OW1008", Caller, "the window for catching up is out of range";
    RunsWaiting = "OW1009", Race, "as many runs of a service wait as may";
    ServiceInvalid = "OW1010", Caller, "what was said of a service does not go together";
    ScheduleNameInvalid = "OW1011", Caller, "the name of a schedule is empty, too long, or has control characters";
    CronInvalid = "OW1012", Caller, "the schedule can't be read, or never comes";
    ZoneUnknown = "OW1013", Caller, "there is no such time zone";
    ScheduleUnknown = "OW1014", Caller, "there is no schedule of this name";
    ScheduleMoved = "OW1015", Race, "the schedule was changed by somebody else at the same time";
    BackfillInvalid = "OW1016", Caller, "the range to fill in is empty, in the future, or too long";
    JitterInvalid = "OW1017", Caller, "the jitter is out of range";
    TriggerNameInvalid = "OW1021", Caller, "the name of a trigger is empty, too long, or has control characters";
    TriggerInvalid = "OW1022", Caller, "what a trigger listens to, or does then, can't be";
    TriggerUnknown = "OW1023", Caller, "there is no trigger of this name";
    TriggerMoved = "OW1024", Race, "the trigger was changed by somebody else at the same time";
    TriggerLoop = "OW1025", Caller, "too many jobs have followed from each other by triggers";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = Error;

    /// Reads a code in any of the spellings people type: `OW0101`, `ow101`, `101`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.trim().trim_start_matches(['o', 'O']).trim_start_matches(['w', 'W']);
        let number: Option<u32> = digits.parse().ok();
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str().trim_start_matches("OW").parse().ok() == number)
            .ok_or_else(|| Error::new(Self::CodeUnknown, format!("there is no error code {:?}", text.trim())))
    }
}
