//! Slots as they are shown.

use super::*;

/// Also where long terms and the margin together leave fewer slots than there are runners.
#[test]
fn a_whole_slot_is_the_slot_and_the_margin_at_its_end() {
    let runners: Vec<Runner> = (0..6).map(|n| runner(n, n as f64)).collect();
    let margin = Duration::from_secs(8);
    let spec = Spec { spread_margin: margin, ..Spec::every(Duration::from_secs(60)) };
    for mode in [Mode::Cycle, Mode::PerRunner] {
        let setting = setting(Spec { mode, ..spec.clone() });
        let began = start_of(4, Duration::from_secs(60));
        let five = Term { ended_at: Some(began.after(Duration::from_secs(5))), ..term(4, Outcome::Done) };
        let view = View { now: at(301.0), setting: &setting, runners: &runners, terms: &[five], held: None };
        let both = |me| Some((plan::turn_of(&view, session(me))?, plan::whole_turn_of(&view, session(me))?));
        let slots: Vec<_> = (0..6).filter_map(both).collect();
        assert_eq!(slots.len(), if mode == Mode::Cycle { 4 } else { 6 });
        for (slot, whole) in slots {
            assert_eq!((whole.start, whole.end), (slot.start, slot.end + margin), "{mode:?}");
        }
    }
}
