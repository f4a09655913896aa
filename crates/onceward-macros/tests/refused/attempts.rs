use onceward_macros::Job;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "a", max_attempts = 0)]
struct Welcome {
    user: u64,
}

fn main() {}
