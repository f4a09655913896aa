//! Sessions in the memory model: one row per worker, the only thing that is renewed.

use onceward_core::{Code, Error, Result, SessionId, Timestamp, Token, session};

use super::{Jobs, Name};
use crate::store::{JobRef, Renew, SessionRef, SessionRenewed};

impl Jobs {
    pub(super) fn session_open(&mut self, ask: &session::Open, now: Timestamp) -> Result<session::Record> {
        if let Some(row) = self.sessions.get(&ask.id) {
            // A session that has run out never comes back: what it held is somebody else's by now.
            let lost =
                || Error::new(Code::SessionLost, "a session of this id has run out").at("session.open");
            return if row.is_lost(now) { Err(lost()) } else { Ok(row.clone()) };
        }
        let row = session::Record {
            id: ask.id,
            owner: ask.owner.clone(),
            token: Token::next(None, now),
            started_at: now,
            seen_at: now,
            expires_at: now.after(ask.ttl),
            ttl: ask.ttl,
            draining: false,
            running: 0,
            about: ask.about.clone(),
        };
        self.sessions.insert(ask.id, row.clone());
        Ok(row)
    }

    pub(super) fn session_renew(&mut self, ask: &SessionRef, now: Timestamp) -> SessionRenewed {
        let renew = session::renew(self.sessions.get(&ask.id), ask.token, now);
        let (Renew::Until(until), Some(row)) = (renew, self.sessions.get_mut(&ask.id)) else {
            return SessionRenewed { renew, called_off: Vec::new(), paused: Vec::new(), draining: false };
        };
        (row.expires_at, row.seen_at) = (until, now);
        let draining = row.draining;
        let (called_off, paused) = (
            self.noted(ask.id, |name| self.called_off.contains_key(name)),
            self.noted(ask.id, |name| self.rows.get(name).is_some_and(|row| row.paused.is_some())),
        );
        SessionRenewed { renew, called_off, paused, draining }
    }

    /// The jobs that a session runs and of which somebody has noted something.
    fn noted(&self, session: SessionId, is_noted: impl Fn(&Name) -> bool) -> Vec<JobRef> {
        let mut noted = Vec::new();
        for claim in self.claims.values().filter(|claim| claim.session == session) {
            let runs = claim.names().filter(|name| is_noted(name) && self.runs(name, claim.token));
            noted.extend(runs.map(|(namespace, id)| JobRef { namespace, id }));
        }
        noted.sort();
        noted
    }

    pub(super) fn session_close(&mut self, ask: &SessionRef, now: Timestamp) -> bool {
        let Some(row) = self.sessions.get_mut(&ask.id).filter(|row| row.token == ask.token) else {
            return false;
        };
        let was_alive = !row.is_lost(now);
        // Rescue clears it away, with what it still holds.
        row.expires_at = row.expires_at.min(now);
        if !self.claims.values().any(|claim| claim.session == ask.id) {
            self.sessions.remove(&ask.id);
            self.forget_permits();
        }
        was_alive
    }

    pub(in crate::memory) fn session_list(&self) -> Vec<session::Record> {
        let running = |session: SessionId| {
            let claims = self.claims.values().filter(|claim| claim.session == session);
            claims.map(|claim| claim.names().filter(|name| self.runs(name, claim.token)).count() as u64).sum()
        };
        let row = |row: &session::Record| session::Record { running: running(row.id), ..row.clone() };
        let mut rows: Vec<_> = self.sessions.values().map(row).collect();
        rows.sort_by_key(|row| (row.started_at, row.id));
        rows
    }

    pub(super) fn session_drain(&mut self, id: SessionId, draining: bool) -> bool {
        let Some(row) = self.sessions.get_mut(&id) else { return false };
        row.draining = draining;
        true
    }

    /// Whether the claims of a session are to be rescued: it has run out, or was cleared away.
    pub(in crate::memory) fn is_lost(&self, session: SessionId, now: Timestamp) -> bool {
        self.sessions.get(&session).is_none_or(|row| row.is_lost(now))
    }
}
