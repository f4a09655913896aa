//! A trip of three bookings: if the last one can't be had, the others are undone, in the reverse order.
//!
//!     cargo run --example saga_trip_booking
//!
//! Kill it in the middle and start it again: nothing is booked or undone twice.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onceward::Onceward;
use onceward::durable::{AnyError, Failure, Saga, durable, step};
use serde::{Deserialize, Serialize};

/// How long a booking takes.
const WORK: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 300 });

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TripError {
    /// There is no car left, and everything else was undone.
    NoCar,
    Other(String),
}

impl fmt::Display for TripError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCar => f.write_str("there is no car left"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for TripError {}

impl<E: fmt::Display> From<Failure<E>> for TripError {
    fn from(failure: Failure<E>) -> Self {
        Self::Other(failure.to_string())
    }
}

async fn book(what: &str, traveller: &str) -> Result<String, AnyError> {
    tokio::time::sleep(WORK).await;
    println!("{what} booked for {traveller}");
    Ok(format!("{what}-1"))
}

async fn undo(booking: String) -> Result<(), AnyError> {
    tokio::time::sleep(WORK).await;
    println!("{booking} given back");
    Ok(())
}

#[durable]
pub(crate) async fn trip(traveller: String, cars: u32) -> Result<Vec<String>, TripError> {
    let mut saga = Saga::<AnyError>::new();
    let mut booked = Vec::new();
    for what in ["flight", "hotel"] {
        let booking = step("book", || book(what, &traveller)).await?;
        let given_back = booking.clone();
        saga.undo("undo", move || undo(given_back.clone()));
        booked.push(booking);
    }
    if cars == 0 {
        saga.compensate().await?;
        return Err(TripError::NoCar);
    }
    booked.push(step("book", || book("car", &traveller)).await?);
    Ok(booked)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("trip.db"), PathBuf::from);
    let ow = Onceward::connect(&format!("sqlite://{}", file.display())).await?;
    let worker = ow.worker().durable(trip).session_ttl(Duration::from_secs(2)).start().await?;
    for (traveller, cars) in [("Ada", 1), ("Grace", 0)] {
        let run = ow.start(trip(traveller.to_owned(), cars)).id(format!("trip-{traveller}")).await?;
        match run.result().await {
            Ok(booked) => println!("{traveller} travels: {}", booked.join(", ")),
            Err(Failure::App(TripError::NoCar)) => {
                println!("{traveller} stays at home, and owes nobody anything")
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    worker.shutdown().await;
    ow.shutdown().await;
    Ok(())
}
