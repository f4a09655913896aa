use onceward_macros::Job;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Job)]
#[job(kind = "a", at_most_once = true)]
struct Welcome {
    user: u64,
}

fn main() {}
