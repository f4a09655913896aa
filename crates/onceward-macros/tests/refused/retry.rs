use onceward_macros::Job;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "a", retry = "often")]
struct Welcome {
    user: u64,
}

fn main() {}
