//! Schemas that are used again. Applying every migration costs more than most tests of the suite do, so a schema that
//! one test has ended with is emptied for another.
//!
//! A schema is lent for as long as the connection lives that has its advisory lock: a test that dies gives it back. It
//! is empty when everything that was added since the last migration is gone, and what the migrations wrote is back.

use onceward_store::migrate::Migrator;
use tokio_postgres::Client;

use super::{Fresh, connect};

/// A schema is used again only when this many were not used since: whatever its last user left running has ended.
const REST: usize = 8;

/// Serialises who takes which; any number nobody else locks.
const TAKING: i64 = 0x6f6e_6365;

/// The right to a schema of the pool.
pub struct Lent {
    _lock: Client,
}

/// An up-to-date schema on this server, as empty as a new one.
pub async fn lend(server: &str) -> Fresh {
    let client = connect(server).await;
    if let Some(schema) = rested(&client).await
        && empty(&client, &schema).await
    {
        return Fresh { lent: Some(Lent { _lock: client }), ..Fresh::named(server, schema) };
    }
    let fresh = Fresh::unmigrated(server).await;
    fresh.migrator().await.up(None).await.unwrap();
    keep(&client, &fresh.schema).await;
    Fresh { lent: Some(Lent { _lock: client }), ..fresh }
}

/// Locks the schema that was lent the longest ago, if it is nobody's and enough others were lent since.
async fn rested(client: &Client) -> Option<String> {
    let taking = format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock({TAKING});
         CREATE SCHEMA IF NOT EXISTS lent;
         CREATE SEQUENCE IF NOT EXISTS lent.turn;
         CREATE TABLE IF NOT EXISTS lent.schema
             (name text PRIMARY KEY, turn bigint NOT NULL DEFAULT nextval('lent.turn'))"
    );
    client.batch_execute(&taking).await.unwrap();
    let by_age = client.query("SELECT name FROM lent.schema ORDER BY turn", &[]).await.unwrap();
    let mut free = None;
    let resting = by_age.len().saturating_sub(REST);
    for row in &by_age[..resting] {
        let name: String = row.get(0);
        let locking = "SELECT pg_try_advisory_lock(hashtext($1))";
        if client.query_one(locking, &[&name]).await.unwrap().get(0) {
            let turning = "UPDATE lent.schema SET turn = nextval('lent.turn') WHERE name = $1";
            client.execute(turning, &[&name]).await.unwrap();
            free = Some(name);
            break;
        }
    }
    client.batch_execute("COMMIT").await.unwrap();
    free
}

/// Puts a schema back to how its migrations left it. False if something of theirs is gone: then it is used no more.
async fn empty(client: &Client, schema: &str) -> bool {
    let missing =
        "SELECT count(*) FROM lent.seed WHERE schema = $1 AND to_regclass(schema || '.' || name) IS NULL";
    let missing: i64 = client.query_one(missing, &[&schema]).await.unwrap().get(0);
    if missing > 0 {
        client.execute("DELETE FROM lent.schema WHERE name = $1", &[&schema]).await.unwrap();
        return false;
    }
    let emptying = "
        DO $$
        DECLARE
            used text;
            own record;
        BEGIN
            FOR own IN SELECT c.relname AS name FROM pg_class c
                       WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'p')
                         AND NOT EXISTS (SELECT FROM lent.seed s WHERE s.schema = '{schema}' AND s.name = c.relname)
            LOOP
                EXECUTE format('DROP TABLE {schema}.%I', own.name);
            END LOOP;
            SELECT string_agg(format('{schema}.%I', c.relname), ', ') INTO used FROM pg_class c
            WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' AND c.relname <> 'migration'
              AND pg_relation_size(c.oid) > 0;
            EXECUTE format('TRUNCATE %s RESTART IDENTITY CASCADE', used);
            FOR own IN SELECT name FROM lent.seed WHERE schema = '{schema}' AND filled
            LOOP
                EXECUTE format('INSERT INTO {schema}.%1$I OVERRIDING SYSTEM VALUE TABLE {schema}_seed.%1$I', own.name);
            END LOOP;
        END
        $$";
    client.batch_execute(&emptying.replace("{schema}", schema)).await.unwrap();
    true
}

/// Locks a schema that was just migrated, writes down what is in it, and puts it into the pool.
async fn keep(client: &Client, schema: &str) {
    let keeping = format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock({TAKING});
         SELECT pg_advisory_lock(hashtext('{{schema}}'));
         CREATE TABLE IF NOT EXISTS lent.seed (schema text, name text, filled boolean, PRIMARY KEY (schema, name));
         INSERT INTO lent.seed
             SELECT '{{schema}}', relname, pg_relation_size(oid) > 0 AND relname <> 'migration' FROM pg_class
             WHERE relnamespace = '{{schema}}'::regnamespace AND relkind IN ('r', 'p');
         CREATE SCHEMA {{schema}}_seed;
         DO $$
         DECLARE
             own record;
         BEGIN
             FOR own IN SELECT name FROM lent.seed WHERE schema = '{{schema}}' AND filled
             LOOP
                 EXECUTE format('CREATE TABLE {{schema}}_seed.%I AS TABLE {{schema}}.%I', own.name, own.name);
             END LOOP;
         END
         $$;
         INSERT INTO lent.schema (name) VALUES ('{{schema}}');
         COMMIT"
    );
    client.batch_execute(&keeping.replace("{schema}", schema)).await.unwrap();
}
