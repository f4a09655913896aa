//! How long to wait before trying a store again: exponential with full jitter, bounded.

use core::time::Duration;

/// The delay before attempt `attempt` (0 = the first retry): somewhere between half of and the whole of
/// `first * 2^attempt`, at most `cap`. `seed` is any random number; the same seed gives the same delay.
pub fn delay(attempt: u32, first: Duration, cap: Duration, seed: u64) -> Duration {
    let full = first.saturating_mul(2_u32.saturating_pow(attempt.min(20))).min(cap);
    let half = full / 2;
    let parts = u32::try_from(mix(seed) >> 44).unwrap_or(0); // 20 bits of jitter
    half + half.mul_f64(f64::from(parts) / f64::from(1_u32 << 20))
}

/// One round of splitmix64: spreads a counter or a clock over all bits.
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_below_the_cap() {
        let (first, cap) = (Duration::from_millis(10), Duration::from_secs(1));
        for attempt in 0..40 {
            for seed in 0..50 {
                let full = first.saturating_mul(2_u32.saturating_pow(attempt)).min(cap);
                let delay = delay(attempt, first, cap, seed);
                assert!(delay >= full / 2 && delay <= full, "{attempt} {seed} {delay:?}");
            }
        }
    }
}
