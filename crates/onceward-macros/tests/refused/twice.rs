use onceward_macros::Job;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "a", queue = "x")]
#[job(queue = "y")]
struct Welcome {
    user: u64,
}

fn main() {}
