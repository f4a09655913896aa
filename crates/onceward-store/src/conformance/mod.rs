//! The suite every store passes: one list of cases over a [`Harness`], run by [`suite!`](suite).
//!
//! A store that passes keeps the invariants L1-L12, O1-O14, J1-J16, A1, A4 and A7 as far as a store can: the rest
//! belongs to the client (trust margins, waiting) and to the enlisted transactions. Cases never assume that the
//! clock stands still, nor that it runs.
//!
//! ```
//! use core::time::Duration;
//! use std::sync::Arc;
//! use onceward_store::clock::ManualClock;
//! use onceward_store::conformance::Harness;
//! use onceward_store::{Store, memory::MemoryStore};
//!
//! struct Memory { clock: ManualClock, store: Arc<dyn Store> }
//!
//! impl Memory {
//!     fn new() -> Self {
//!         let clock = ManualClock::default();
//!         Self { store: Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock }
//!     }
//! }
//!
//! #[async_trait::async_trait]
//! impl Harness for Memory {
//!     async fn store(&self) -> Arc<dyn Store> { self.store.clone() }
//!     async fn second(&self) -> Arc<dyn Store> { self.store.clone() }
//!     async fn advance(&self, by: Duration) { self.clock.advance(by) }
//! }
//!
//! onceward_store::conformance::suite!(Memory::new());
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // these are tests

pub mod about;
pub mod batch;
pub mod endpoint;
pub mod job_again;
pub mod job_claim;
pub mod job_enqueue;
pub mod job_hand_over;
pub mod job_keep;
pub mod job_key;
pub mod job_keys;
mod job_kit;
pub mod job_lanes;
pub mod job_limit;
pub mod job_move;
pub mod job_order;
pub mod job_rescue;
pub mod job_settle;
pub mod job_tune;
pub mod keeping;
mod kit;
pub mod lease_admin;
pub mod lease_counted;
pub mod lease_grant;
pub mod lease_hold;
pub mod lease_line;
pub mod naming;
pub mod once_body;
pub mod once_claim;
pub mod once_doubt;
pub mod once_list;
pub mod once_settle;
pub mod race;
pub mod run;
pub mod run_fork;
pub mod run_pause;
pub mod schedule;
pub mod service;
pub mod session;
pub mod trigger;

use core::time::Duration;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Store;

/// A store under test, and the hand on its clock.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The store: fresh and empty at first, the same one afterwards.
    async fn store(&self) -> Arc<dyn Store>;

    /// Another handle on the same data, as another process would open it.
    async fn second(&self) -> Arc<dyn Store>;

    /// Lets the store's clock pass, for deadlines and for retention.
    async fn advance(&self, by: Duration);

    /// Steps the store's wall clock back, as NTP or an operator does. `false` where the harness can't: the
    /// cases about clocks then prove nothing.
    async fn step_back(&self, _by: Duration) -> bool {
        false
    }
}

/// The longest a case may take before it counts as hung.
const CASE_DEADLINE: Duration = Duration::from_secs(120);

/// Runs one case, or fails when it hangs. [`suite!`](suite) calls it.
pub async fn run(case: impl Future<Output = ()>) {
    tokio::time::timeout(CASE_DEADLINE, case).await.expect("the case hangs");
}

pub use crate::conformance_suite as suite;

/// One test per case, each on a harness of its own: `suite!(expression)`. The expression may await.
#[macro_export]
macro_rules! conformance_suite {
    ($harness:expr) => {
        $crate::conformance_cases! { $harness;
            about {
                a_store_says_what_it_can_do;
                the_epoch_stands_while_nothing_was_lost;
                the_self_check_finds_no_error;
                what_one_process_writes_the_other_sees;
            }
            lease_grant {
                l1_a_takeover_has_a_larger_token;
                l1_tokens_grow_although_the_clock_steps_back;
                l2_a_live_lease_is_refused_and_shows_its_holder;
                l2_a_refused_ask_changes_nothing;
                l2_an_expired_lease_is_free_by_the_stores_clock;
                l2_nothing_of_the_holder_before_is_left;
                l6_a_lost_lease_stays_closed_for_its_lock_delay;
                l6_a_lease_given_back_has_no_lock_delay;
                l7_the_same_ask_sent_twice_finds_its_own_grant;
                l7_an_ended_grant_is_not_adopted;
                l10_the_same_owner_name_never_shares_a_grant;
                l12_contenders_go_by_the_ttl_of_the_row;
                l12_the_longest_and_shortest_times_are_kept;
                n17_a_poisoned_expiry_ends_with_its_ttl_and_not_a_day_later;
                n17_a_renewing_holder_is_never_robbed;
                metadata_is_kept_as_it_is;
            }
            lease_hold {
                a_renewal_is_counted_and_moves_the_expiry;
                l3_renewing_needs_the_token_and_the_session;
                l3_an_expired_lease_is_not_revived;
                l3_an_ended_lease_is_not_renewed;
                l3_a_replaced_holder_extends_nobody;
                l3_the_hard_limit_is_a_ceiling;
                l8_releasing_n_never_frees_n_plus_1;
                l8_a_release_is_for_one_key_and_one_token;
                l8_giving_back_twice_is_answered_no;
                l8_late_is_not_too_late_to_give_back;
                a_release_keeps_the_row_and_its_reason;
            }
            lease_counted {
                l2_a_counted_lease_has_n_holders_and_not_one_more;
                l1_tokens_grow_over_all_places;
                l1_tokens_grow_when_there_are_fewer_places;
                l2_a_free_place_is_used_again;
                l2_a_full_lease_shows_the_place_that_is_free_first;
                l2_every_place_expires_on_its_own;
                l3_a_place_is_renewed_and_given_back_for_itself;
                l7_the_same_session_never_takes_a_second_place;
                l2_everybody_grabs_at_once_and_n_hold;
                n12_many_places_are_given_out_and_taken_back;
            }
            lease_line {
                l11_fair_waiters_are_served_in_their_order;
                l11_a_place_in_line_has_a_larger_number_than_those_before;
                l11_a_free_key_that_is_promised_shows_no_holder;
                l11_a_place_not_asked_for_again_is_given_up;
                l11_asking_again_keeps_the_place;
                l11_whoever_leaves_makes_way;
                l11_an_unfair_waiter_blocks_nobody;
                l11_lines_of_different_keys_are_apart;
                l11_the_line_of_a_counted_lease_is_for_all_places;
                l11_waiting_never_loses_a_grant_already_made;
                l11_waiters_who_come_at_once_are_served_one_by_one;
                l6_a_release_and_a_break_wake_those_who_wait;
            }
            lease_admin {
                l8_a_break_ends_the_grant_that_was_looked_at;
                a_break_of_what_nobody_holds_is_answered_so;
                a_break_is_audited;
                a_break_without_a_token_ends_every_place;
                a_lookup_shows_every_place_in_order;
                a_listing_is_paged_in_byte_order_without_gaps;
                a_listing_starts_after_rows_that_are_gone;
                a_prefix_is_taken_literally;
                a_listing_tells_held_released_and_expired_apart;
            }
            naming {
                o12_odd_keys_are_kept_apart_as_leases;
                o12_odd_keys_are_kept_apart_in_one_batch;
                o12_a_namespace_and_a_key_never_run_together_as_leases;
                o12_a_namespace_and_a_key_never_run_together_as_once;
                o12_one_tenant_sees_nothing_of_another;
                a_lease_and_a_once_of_one_name_are_two_things;
                names_of_owners_are_kept_as_they_are;
            }
            batch {
                an_empty_batch_has_no_answers;
                leases_are_answered_in_the_order_asked;
                one_batch_of_leases_has_every_fate;
                one_batch_renews_and_gives_back_only_what_is_held;
                the_largest_batch_of_leases_is_granted_renewed_and_given_back;
                one_batch_of_claims_has_every_fate;
                one_batch_of_endings_has_every_fate;
                the_largest_batch_of_claims_is_granted_renewed_and_settled;
                a_batch_carries_the_most_bytes_it_may;
                n33_batches_in_opposite_orders_both_end;
            }
            once_claim {
                o1_a_first_claim_runs;
                o9_a_granted_claim_is_in_the_store_already;
                o1_a_running_key_is_not_run_again;
                o3_a_result_is_replayed_to_everybody;
                o3_a_final_failure_is_replayed_like_a_result;
                l7_the_same_claim_sent_twice_is_one_claim;
                l7_a_claim_that_ended_is_not_adopted;
                o4_another_request_is_refused_in_every_state;
                o4_the_same_request_or_an_unnamed_one_is_not_refused;
                o4_a_key_that_is_free_again_takes_any_request;
                o8_a_result_is_replayed_until_its_retention_ends;
                o8_a_failure_is_retired_as_well;
                o8_nothing_unsettled_is_ever_retired;
                o8_the_longest_retention_is_kept;
                a_claim_is_renewed_by_its_token_and_session;
                a_claim_that_ended_is_not_renewed;
                the_hard_limit_of_an_execution_is_a_ceiling;
                l1_tokens_of_a_key_grow_over_all_its_claims;
            }
            once_settle {
                o2_a_recorded_outcome_is_never_overwritten;
                o2_another_token_settles_nothing;
                o2_a_replaced_owner_settles_nothing;
                o3_an_outcome_sent_twice_is_recorded_once;
                o7_evidence_after_the_expiry_is_recorded_as_late;
                o7_evidence_wins_over_a_doubt_others_have_seen;
                an_unknown_ending_is_uncertain_at_once;
                o1_not_started_frees_the_key_and_counts_the_attempt;
                an_adopted_ask_that_was_marked_not_started_begins_anew;
                long_and_odd_reasons_are_cut_never_refused;
            }
            once_doubt {
                o5_an_expired_claim_is_uncertain_and_not_run_again;
                o5_only_a_restartable_ask_runs_an_uncertain_key_again;
                o5_a_restart_may_be_the_first_to_see_the_expiry;
                o5_a_restart_that_does_not_start_leaves_the_doubt_before_it;
                o6_doubt_never_ends_by_itself;
                o6_a_resolution_settles_what_nobody_knows;
                o6_an_expired_claim_is_resolved_before_anybody_saw_it;
                o6_a_resolution_is_audited;
                o6_a_dry_run_decides_and_writes_nothing;
                o6_a_resolution_is_for_the_row_that_was_looked_at;
                o6_only_uncertain_keys_are_resolved;
                o6_of_two_operators_one_wins;
                o7_the_first_owner_is_too_late_after_a_resolution;
                o7_the_first_owner_is_too_late_after_the_run_that_followed;
                o8_a_resolved_outcome_is_kept_as_long_as_any;
                o13_a_resolution_may_bring_a_large_or_an_empty_body;
                odd_reasons_of_operators_are_kept_or_cut;
                o4_a_mismatch_sees_the_expiry_but_shows_nothing;
            }
            once_body {
                o3_every_byte_comes_back;
                o3_an_empty_result_is_a_result;
                o3_a_failure_without_a_body_has_none;
                o13_the_largest_body_comes_back_byte_for_byte;
                o13_a_larger_body_is_done_without_its_bytes;
                o3_the_content_type_comes_back;
                a_listing_shows_no_bytes_of_bodies;
            }
            once_list {
                o6_a_listing_by_state_counts_expired_claims_as_uncertain;
                a_listing_of_once_is_paged_in_byte_order_without_gaps;
                o6_uncertain_keys_are_listed_page_by_page;
                a_prefix_of_once_keys_is_taken_literally;
                a_lookup_answers_in_the_order_asked;
                o5_looking_changes_nothing;
            }
            keeping {
                a_history_is_told_newest_first;
                a_takeover_tells_whom_it_replaced;
                a_history_of_nothing_is_empty;
                o5_the_expiry_is_told_once_however_many_see_it;
                every_start_and_every_end_of_a_key_is_told;
                o6_a_prune_takes_nothing_uncertain_or_running;
                o8_a_prune_takes_outcomes_when_their_retention_has_ended;
                a_prune_takes_leases_nobody_holds_for_long_enough;
                l1_tokens_grow_after_the_row_was_forgotten;
                l1_a_row_whose_token_is_ahead_of_the_clock_is_kept;
                a_prune_takes_old_history_and_leaves_the_young;
                a_prune_takes_no_more_than_asked_at_a_time;
                a_prune_gets_past_what_it_has_to_keep;
            }
            job_enqueue {
                j1_an_enqueued_job_is_seen_by_every_process;
                a_new_job_is_what_its_maker_said_and_no_more;
                everything_said_about_a_job_comes_back;
                j2_the_same_job_sent_twice_is_one_job;
                j2_the_first_of_two_jobs_of_one_id_wins;
                payloads_come_back_to_the_byte;
                the_largest_payload_comes_back_to_the_byte;
                j15_a_delayed_job_waits_for_its_time_by_the_stores_clock;
                a_job_that_was_due_long_ago_is_due_now;
                jobs_may_be_due_as_late_as_can_be_said;
                j2_a_thousand_jobs_are_enqueued_claimed_and_settled_at_once;
                one_batch_of_jobs_has_every_fate_in_its_order;
                empty_batches_of_jobs_have_no_answers;
                odd_names_of_kinds_and_queues_are_kept_apart;
                a_job_belongs_to_its_namespace;
            }
            job_key {
                j9_an_idempotency_key_finds_its_job_in_every_state;
                j9_an_idempotency_key_refuses_another_request;
                j9_a_job_sent_again_is_not_kept_away_by_its_own_keys;
                j9_an_idempotency_key_outlives_the_row_of_its_job;
                j9_an_idempotency_key_lasts_as_long_as_its_job;
                j9_an_uncertain_job_has_its_idempotency_key_until_it_is_resolved;
                j9_an_idempotency_key_ends_with_its_time;
                j9_keys_of_one_text_are_apart_by_namespace_and_purpose;
                j9_a_key_until_started_is_free_when_the_handler_starts;
                j9_a_key_until_started_ends_with_a_job_that_never_started;
                j9_a_key_until_done_lasts_as_long_as_its_job;
                j9_a_key_until_done_is_free_after_every_end;
                j9_a_window_lasts_whatever_becomes_of_its_job;
                j9_a_newcomer_replaces_what_waits_under_its_key;
                j4_a_newcomer_leaves_an_attempt_to_what_it_replaces;
                j9_j10_a_retrying_job_that_is_asked_for_now_runs;
                j9_a_newcomer_changes_nothing_that_has_ended;
                j9_a_newcomer_pushes_out_what_waits_under_its_key;
                j9_of_many_at_once_one_gets_the_key;
                j13_a_replay_asked_for_twice_is_one_job_that_tells_its_line;
            }
            job_again {
                j9_a_job_that_is_run_again_takes_its_key_again;
                j9_a_job_whose_key_another_has_is_not_run_again;
                j9_a_key_until_started_is_taken_again_by_what_never_started;
                j9_a_window_is_the_same_for_a_job_that_is_run_again;
                j9_a_job_that_is_run_at_once_keeps_its_key;
                j9_a_job_that_is_run_again_can_be_replaced_and_pushed_out;
                j9_j10_a_job_that_is_run_again_has_its_key_in_its_line;
                j9_of_a_run_now_and_newcomers_one_gets_the_key;
                j9_a_replay_has_none_of_the_keys;
            }
            job_claim {
                j14_a_claim_takes_no_more_than_asked;
                j14_the_same_claim_sent_twice_takes_nothing_more;
                j3_a_claim_sent_again_shows_what_still_runs_under_it;
                an_empty_claim_leaves_nothing_behind;
                the_highest_priority_goes_first_then_what_was_due_first;
                the_best_of_several_lanes_go_first;
                j15_unknown_kinds_are_left_for_others;
                j15_what_is_not_due_hides_nothing_that_is;
                tagged_jobs_are_taken_only_from_their_own_lane;
                j3_the_token_of_a_job_grows_over_all_its_attempts;
                j3_many_claimers_take_each_job_once;
                j14_the_same_claim_sent_many_times_at_once_takes_once;
                a_claimed_job_shows_who_runs_it;
                j14_only_one_job_is_claimed_alone;
                j15_jobs_that_come_late_with_small_ids_are_taken;
                a_job_after_its_deadline_is_claimed_like_any_other;
                the_largest_claim_may_name_many_lanes;
            }
            job_hand_over {
                j3_j4_what_is_handed_over_runs_under_a_claim;
                j2_what_is_handed_over_again_is_there_once;
                what_was_there_before_is_not_handed_over;
                a_paused_queue_hands_nothing_over;
                j7_what_was_handed_over_is_rescued;
            }
            run {
                d1_a_journal_is_what_was_added_to_it;
                d1_a_zombie_adds_nothing;
                entries_that_are_there_hold_up_no_others;
                d6_d7_the_end_of_a_child_arrives_once;
                d7_a_child_that_never_ran_is_heard_of;
                d6_signals_wait_in_order;
                d6_a_parked_run_is_woken_by_what_is_new_to_it;
                d7_a_lost_process_costs_a_run_no_attempt;
                d7_a_child_starts_with_its_entry;
                d6_d7_a_child_ends_with_its_entry;
                a_trigger_hears_of_children_however_they_end;
                d1_a_zombie_ends_no_child_in_its_journal;
                journals_go_with_their_runs;
                j10_children_of_one_key_run_one_at_a_time;
                d1_d8_a_run_goes_on_as_new;
                d1_a_zombie_turns_no_journal;
                d1_d11_generations_follow_each_other;
            }
            run_fork {
                d1_a_fork_begins_with_a_part_of_a_journal;
                a_fork_sent_again_is_the_same;
                a_fork_is_whole_or_not_there;
                a_fork_waits_like_any_run;
            }
            run_pause {
                a_paused_run_waits_nowhere;
                a_paused_run_is_not_outstanding;
                d6_what_arrives_for_a_paused_run_waits_for_it;
                a_run_that_is_paused_while_it_runs_is_given_back;
                d7_a_paused_run_that_is_lost_stays_paused;
                d6_a_pause_may_be_over_before_it_was_heard_of;
                a_paused_run_that_ends_is_not_paused_any_more;
                times_of_a_paused_run_come_when_it_is_resumed;
                only_runs_are_paused;
                a_paused_run_can_be_called_off_or_run_at_once;
                j10_a_paused_run_keeps_its_turn;
                j8_a_pause_and_a_claim_never_miss_each_other;
            }
            job_settle {
                j5_progress_is_kept_until_the_job_is_over;
                j5_every_ending_leaves_the_state_it_means;
                j5_an_ending_sent_twice_is_recorded_once;
                j5_the_end_of_an_earlier_attempt_changes_nothing;
                j5_an_older_attempt_of_the_same_worker_settles_nothing;
                j5_a_token_nobody_was_given_settles_nothing;
                j2_an_ending_counts_after_the_session_has_run_out;
                a_job_not_to_be_kept_is_gone_when_it_is_over;
                j6_a_job_that_has_ended_never_runs_again_by_itself;
                results_come_back_to_the_byte;
                j4_a_job_has_its_attempts_and_no_more;
                j15_a_failed_attempt_is_followed_by_another_after_its_pause;
                j4_snoozing_and_handing_back_cost_no_attempt;
                a_job_that_is_handed_back_keeps_its_place;
                j5_one_batch_of_settles_has_every_fate_in_its_order;
                long_and_odd_errors_are_kept_or_cut_never_refused;
                a_long_past_is_kept_within_its_bounds;
                j2_a_finished_claim_takes_nothing_with_it;
                j5_of_many_endings_at_once_one_is_recorded;
            }
            job_rescue {
                j7_what_a_lost_worker_had_runs_again;
                j7_nothing_is_taken_from_a_worker_that_lives;
                j7_a_rescued_worker_is_too_late;
                j7_a_job_that_has_ended_is_not_rescued;
                j7_a_job_of_a_later_claim_is_not_rescued_with_an_earlier_one;
                j7_two_rescuers_take_each_job_once;
                j7_a_late_settle_and_a_rescue_never_both_win;
                j4_a_job_that_kills_its_processes_ends_dead;
                j4_the_last_attempt_that_is_lost_is_the_end;
                j4_at_most_once_and_never_begun_is_handed_on_uncharged;
                j7_an_earlier_begin_does_not_make_a_later_attempt_uncertain;
                j7_at_most_once_and_begun_is_uncertain_and_stays_so;
                j5_late_evidence_settles_an_uncertain_job;
                j5_an_uncertain_job_is_not_put_back_by_its_worker;
                j6_late_evidence_is_too_late_after_a_resolution;
                j7_what_a_closed_session_held_is_rescued_at_once;
                j2_what_a_lost_session_claims_is_rescued_as_well;
                j7_a_rescue_goes_on_where_the_last_one_stopped;
                j8_a_job_that_was_called_off_is_not_rescued_into_another_attempt;
                j7_only_the_current_attempt_begins;
                j3_a_rescued_claim_is_not_found_again;
            }
            job_move {
                j8_a_job_that_was_called_off_before_its_claim_never_runs;
                j8_a_running_job_that_was_called_off_does_not_go_on;
                j15_a_job_whose_deadline_has_passed_is_found_and_ended;
                j8_a_job_that_is_run_again_is_not_called_off_any_more;
                j6_what_is_done_or_cancelled_can_not_be_moved;
                j4_a_dead_job_that_is_run_again_has_one_more_attempt;
                a_job_that_waits_for_its_time_can_be_run_now;
                j3_a_running_job_can_not_be_run_again;
                j6_an_uncertain_job_is_settled_as_somebody_says;
                j6_a_move_is_of_the_row_that_was_looked_at;
                j6_a_dry_run_decides_and_writes_nothing;
                j8_a_job_not_to_be_kept_is_gone_when_it_is_called_off;
                j8_a_cancel_and_a_settle_leave_one_end;
                j8_a_cancel_and_a_claim_never_both_have_the_job;
                j6_of_many_operators_one_moves_the_job;
            }
            job_lanes {
                a_paused_queue_gives_nothing_until_it_is_resumed;
                a_pause_is_of_one_queue_in_one_namespace;
                a_pause_tells_who_and_why;
                a_queue_tells_what_it_holds;
                lanes_are_named_once_however_many_wait;
                what_is_outstanding_is_what_a_worker_could_still_run;
                what_is_due_after_the_horizon_is_not_outstanding;
                j15_what_is_due_becomes_ready;
                j15_a_promoted_job_has_its_priority_and_its_place;
                j15_jobs_are_promoted_once_however_many_look;
                j15_a_job_that_always_fails_blocks_no_other;
                j15_a_job_that_kills_blocks_no_other;
                a_job_is_claimed_alone_until_an_attempt_comes_back;
                n55_a_job_that_is_handed_back_is_still_claimed_alone;
                a_look_tells_what_there_is_to_do;
                workers_are_told_of_jobs_that_have_become_ready;
            }
            job_limit {
                limits_are_set_read_and_lifted;
                j11_a_limited_queue_gives_nothing_without_a_permit;
                j11_a_limited_queue_hands_nothing_over;
                j11_no_more_run_than_the_limit;
                j11_a_permit_is_for_all_lanes_of_its_queue;
                j11_what_ran_before_is_counted;
                j11_a_changed_limit_voids_what_was_given;
                j11_a_lost_session_keeps_its_permits_until_it_is_rescued;
                j11_a_closed_session_gives_its_permits_back;
                j11_starts_stay_within_the_rate;
                j11_a_start_is_spent_once_and_ends_with_its_chunk;
                j11_many_ask_and_claim_at_the_same_time;
            }
            job_order {
                j10_one_job_of_a_key_runs_at_a_time;
                j10_keys_and_jobs_without_a_key_do_not_wait_for_each_other;
                j10_a_job_that_will_be_tried_again_keeps_those_behind_it_waiting;
                j10_every_end_lets_the_next_one_in;
                j10_those_who_wait_go_by_priority_then_by_when_they_were_due;
                j10_a_job_called_off_in_the_line_is_passed_over;
                j10_a_rescued_job_stays_before_those_behind_it;
                j10_a_job_that_is_run_again_does_not_run_beside_another;
                j10_a_long_line_hides_no_other_job;
                j10_many_claimers_never_run_two_of_a_key;
            }
            job_keys {
                how_many_of_a_key_run_is_set_and_read;
                j10_as_many_of_a_key_run_as_its_queue_allows;
                j10_what_a_queue_allows_is_of_its_namespace;
                j10_a_job_that_will_be_tried_again_keeps_its_seat;
                j10_more_or_fewer_may_be_allowed_while_jobs_wait_and_run;
                j10_of_a_key_in_several_queues_the_strictest_counts;
                j10_who_waits_behind_a_strict_job_goes_when_that_is_called_off;
                j10_who_waits_behind_a_strict_job_goes_when_that_is_pushed_out;
                j10_rescued_jobs_keep_their_seats;
                j10_a_job_that_is_run_again_waits_for_a_seat;
                j10_many_claimers_never_run_more_of_a_key_than_allowed;
            }
            job_keep {
                a_lookup_of_jobs_answers_in_the_order_asked;
                a_listing_of_jobs_is_by_the_state_people_mean;
                a_listing_of_jobs_is_filtered;
                a_listing_of_jobs_is_paged_without_gaps;
                a_listing_of_jobs_stays_in_its_order_while_they_move;
                a_listing_of_jobs_shows_no_payloads_and_no_results;
                looking_at_jobs_changes_nothing;
                j16_a_prune_takes_nothing_that_has_not_ended;
                j16_a_prune_takes_jobs_when_their_retention_has_ended;
                j16_a_prune_takes_dead_jobs_when_they_are_old_enough;
                j16_a_prune_takes_no_dead_job_that_runs_again;
                j9_a_prune_takes_keys_when_their_time_is_over;
            }
            job_tune {
                j15_waiting_counts_as_priority_where_a_queue_says_so;
                j15_priorities_are_strict_again_once_waiting_does_not_count;
                j15_waiting_counts_up_to_the_highest_priority;
                j15_lanes_with_and_without_ageing_are_claimed_together;
                j15_ageing_leaves_limits_and_pauses_as_they_are;
                what_a_queue_is_tuned_by_tells_who_and_since_when;
                j16_a_queue_says_how_long_its_dead_jobs_are_kept;
                j16_two_prunes_at_once_forget_each_job_once;
                j16_a_prune_of_some_jobs_leaves_the_others;
            }
            schedule {
                a_schedule_comes_back_as_it_was_written;
                schedules_are_listed_page_by_page_and_per_namespace;
                what_is_due_is_shown_by_the_stores_clock;
                j12_a_tick_is_enqueued_once_whoever_does_it;
                j12_of_many_at_once_one_enqueues_a_tick;
                j12_a_job_that_is_there_is_not_enqueued_again;
                ticks_with_jitter_wait_and_those_in_a_line_follow_each_other;
                a_schedule_is_removed_under_its_version_and_its_jobs_stay;
            }
            trigger {
                a_trigger_comes_back_as_it_was_written;
                every_end_of_an_attempt_is_heard_as_what_it_is;
                successes_that_go_the_short_way_are_heard;
                what_others_end_is_heard_as_well;
                the_payload_of_an_event_is_kept_for_who_listens;
                what_follows_is_written_once;
                an_end_is_heard_once_by_each_trigger;
                a_trigger_is_removed_with_what_it_has_heard;
            }
            endpoint {
                an_endpoint_comes_back_as_it_was_written;
                endpoints_are_listed_page_by_page_by_name_and_per_namespace;
                what_has_happened_to_an_endpoint_stands_in_its_history;
                of_many_changes_at_once_each_sees_the_one_before;
                an_endpoint_is_removed_under_its_version;
                a_delivery_that_is_there_or_over_is_not_enqueued_again;
            }
            service {
                a_service_is_what_was_declared_and_its_version_grows;
                a_look_shows_the_runners_of_a_service_and_no_others;
                a_look_shows_the_cycles_whatever_else_was_run;
                n17_a_look_tells_a_poisoned_lease_from_a_renewed_one;
                a1_a_cycle_is_begun_once_and_only_under_the_lease;
                a4_an_old_term_begins_and_ends_nothing;
                a_lease_that_is_closed_for_its_lock_delay_shows_until_when;
                a_cycle_is_not_begun_after_its_time;
                a7_a_cycle_that_was_handed_over_is_begun_again;
                missed_cycles_are_recorded_once_and_not_begun;
                parts_of_a_cycle_are_begun_separately;
                a1_of_many_at_once_one_begins_a_cycle;
                a6_what_was_missed_by_a_clock_that_was_ahead_stands_for_nothing;
                old_terms_are_forgotten_but_for_the_last_one;
                old_terms_of_one_service_are_forgotten_from_its_first_on;
                a_setting_of_every_kind_comes_back;
            }
            session {
                a_session_is_what_its_worker_said;
                the_same_session_opened_twice_is_one;
                j7_a_session_that_has_run_out_is_not_opened_again;
                j7_a_session_lives_as_long_as_it_is_renewed;
                j7_a_session_that_has_run_out_is_not_renewed;
                j7_a_session_is_renewed_by_its_token;
                a_session_is_closed_once;
                a_drain_is_told_at_the_next_renewal;
                sessions_are_listed_the_oldest_first_with_what_they_run;
                j8_a_cancel_is_told_to_the_session_that_runs_the_job;
            }
            race {
                l2_sixteen_contenders_never_overlap_and_their_tokens_grow;
                l2_a_lost_lease_is_taken_over_by_one;
                l2_an_absent_lease_is_first_taken_by_one;
                l8_a_late_release_and_a_takeover_never_both_win;
                o1_two_hundred_callers_start_it_once;
                n34_sixty_four_callers_start_every_key_once;
                o1_a_key_that_is_free_again_is_started_once;
                o5_an_expired_claim_is_restarted_by_one;
                o2_of_many_endings_one_is_recorded;
                o6_of_many_operators_one_resolves;
                o7_late_evidence_and_an_operator_never_both_win;
                l7_the_same_claim_sent_many_times_at_once_is_one_claim;
            }
        }
    };
}

/// Writes the tests of [`suite!`](suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_cases {
    ($harness:expr; ) => {};
    ($harness:expr; $area:ident { $($case:ident;)* } $($rest:tt)*) => {
        mod $area {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let harness = $harness;
                    $crate::conformance::run($crate::conformance::$area::$case(&harness)).await;
                }
            )*
        }
        $crate::conformance_cases! { $harness; $($rest)* }
    };
}
