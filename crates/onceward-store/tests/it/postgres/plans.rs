//! Hot statements go by index: on empty, small and large tables, with statistics and without.

use crate::support::Fresh;
use onceward_store::postgres::plans::{Planned, keyed_options, ordered_options, planned};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

const TABLES: [&str; 4] = ["history", "lease", "lease_waiter", "once"];
/// The tables of jobs that may be large. Of the others, one look tells that nearly always nothing is there.
const JOB_TABLES: [&str; 6] = ["job", "job_gate", "job_held", "job_key", "job_later", "job_ready"];

const JOB_INDEXES: [&str; 7] = [
    "job_gate_pkey",
    "job_held_of_key",
    "job_key_pkey",
    "job_later_due",
    "job_pkey",
    "job_ready_lane",
    "job_wanted",
];

/// What takes the first rows of an index, and is sent on connections for that.
const ORDERED: [&str; 8] = [
    "claim_one",
    "claim_many",
    "claim_aged",
    "promote_due",
    "promote_next",
    "promote_admit",
    "job_lanes",
    "job_outstanding",
];
/// Of these, what goes from one lane to the next, beginning with the first one.
const SKIPPING: [&str; 2] = ["job_lanes", "job_outstanding"];

/// A connection with the settings the store gives its own.
async fn client_with(fresh: &Fresh, options: String) -> Client {
    let mut config: Config = fresh.server.parse().unwrap();
    config.options(options);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A literal of a type: NULL, or as many values as a usual batch has.
fn literal(ty: &str, rows: usize) -> String {
    let many = |value: &dyn Fn(usize) -> String| {
        let values: Vec<String> = (0..rows).map(value).collect();
        format!("ARRAY[{}]::{ty}", values.join(","))
    };
    match ty {
        _ if rows == 0 => "NULL".to_owned(),
        "text[]" => many(&|row| format!("'k{row}'")),
        "int8[]" | "int4[]" | "int2[]" => many(&|_| "1".to_owned()),
        "timestamptz[]" => many(&|_| "'2001-01-01'".to_owned()),
        "int2" => "1".to_owned(),
        "timestamptz" => "'2001-01-01'::timestamptz".to_owned(),
        "uuid[]" => many(&|_| "gen_random_uuid()".to_owned()),
        "bytea[]" => many(&|_| "'x'".to_owned()),
        "bool[]" => many(&|_| "true".to_owned()),
        // It serves as a place as well.
        "text" => "'(0,1)'".to_owned(),
        "tid[]" => many(&|_| "'(0,1)'::tid".to_owned()),
        "int8" | "int4" => "1".to_owned(),
        "uuid" => "gen_random_uuid()".to_owned(),
        "bytea" => "'x'".to_owned(),
        "bool" => "true".to_owned(),
        other => panic!("no literal of type {other}"),
    }
}

async fn explain(client: &Client, statement: &Planned, rows: usize) -> String {
    let values: Vec<String> = statement.types.iter().map(|ty| literal(ty, rows)).collect();
    let values = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    explain_with(client, statement, &values).await
}

async fn explain_with(client: &Client, statement: &Planned, values: &str) -> String {
    let Planned { name, text, types, .. } = statement;
    let list = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
    client.batch_execute(&format!("PREPARE {name}{list} AS {text}")).await.unwrap();
    let lines = client.simple_query(&format!("EXPLAIN EXECUTE {name}{values}")).await.unwrap();
    client.batch_execute(&format!("DEALLOCATE {name}")).await.unwrap();
    let line = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    lines.into_iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

/// The scans of a plan that read more of our tables than the keys they are asked for: all of a table, or by an index
/// whose condition leaves the key out.
fn wide_scans(plan: &str) -> Vec<&str> {
    let lines: Vec<&str> = plan.lines().collect();
    // The name of a table ends where its alias begins.
    let ours = |line: &str| {
        TABLES.iter().any(|table| line.contains(&format!(" on {table}")))
            || JOB_TABLES.iter().chain(&JOB_INDEXES).any(|name| line.contains(&format!(" on {name} ")))
    };
    let wide = |(at, line): &(usize, &&str)| {
        let condition = lines.get(at + 1).copied().unwrap_or_default();
        // Whether anybody waits at all is asked for all keys at once: nearly always nobody does.
        let waiters = line.contains("lease_waiter") && condition.contains("(namespace = ANY");
        let keys = [
            "(key = ",
            "(id = ",
            "(lane = ",
            "(run_at ",
            "(ordering_key = ",
            "(queue = ",
            "(session = ",
            "ROW(lane, ",
            "ROW(namespace, ordering_key)",
        ];
        let by_key =
            condition.contains("Index Cond") && (keys.iter().any(|key| condition.contains(key)) || waiters);
        // Whether any run is paused is asked by looking for the first one, in an index that holds no others.
        let paused = line.contains("using job_paused ");
        (line.contains("Seq Scan on ") && !waiters)
            || (line.contains("Index ") && line.contains("Scan") && !by_key && !paused)
    };
    lines.iter().enumerate().filter(|(_, line)| ours(line)).filter(wide).map(|(_, line)| *line).collect()
}

async fn fill(fresh: &Fresh, rows: usize) {
    fresh
        .run(&format!(
            "INSERT INTO {{schema}}.lease
             SELECT 'n' || i % 3, 'key' || i, i % 2, i, 'o', gen_random_uuid(), clock_timestamp(), clock_timestamp(),
                    NULL, 1000, 0, 0, NULL, NULL
             FROM generate_series(1, {rows}) i;
             INSERT INTO {{schema}}.once (namespace, key, state, token, owner, session, attempts, claimed_at,
                                          expires_at, ttl_ms, retain_ms, late, finished_at, retain_until)
             SELECT 'n' || i % 3, 'key' || i, 'done', i, 'o', gen_random_uuid(), 1, clock_timestamp(),
                    clock_timestamp(), 1000, 1000, false, clock_timestamp(), clock_timestamp()
             FROM generate_series(1, {rows}) i;
             INSERT INTO {{schema}}.lease_waiter
             SELECT 'n' || i % 3, 'key' || i, gen_random_uuid(), i, true, clock_timestamp()
             FROM generate_series(1, {rows}) i;
             INSERT INTO {{schema}}.history (at, token, subject, namespace, key, event, actor)
             SELECT clock_timestamp(), i, 'once', 'n' || i % 3, 'key' || i, 'done', 'o'
             FROM generate_series(1, {rows}) i;
             WITH made AS (
                 INSERT INTO {{schema}}.job (namespace, id, kind, queue, priority, state, token, attempt, lost,
                                             enqueued_at, run_at, payload)
                 SELECT 'n' || i % 3, gen_random_uuid(), 'k', 'q' || i % 7, 0, 'ready', 0, 0, 0, clock_timestamp(),
                        clock_timestamp(), ''
                 FROM generate_series(1, {rows}) i
                 RETURNING *, ctid AS place
             ), later AS (
                 INSERT INTO {{schema}}.job_later (namespace, queue, kind, route, rank, run_at, id, token, place)
                 SELECT namespace, queue, kind, '', 0, run_at, id, 0, place FROM made
             ), held AS (
                 INSERT INTO {{schema}}.job_held (namespace, queue, kind, route, rank, run_at, id, token, place,
                                                  ordering_key)
                 SELECT namespace, queue, kind, '', 0, run_at, id, 0, place, queue FROM made
             ), gates AS (
                 INSERT INTO {{schema}}.job_gate (namespace, ordering_key, id) SELECT namespace, id::text, id FROM made
             ), keys AS (
                 INSERT INTO {{schema}}.job_key (namespace, purpose, key, id, until_started)
                 SELECT namespace, 'dedupe', id::text, id, false FROM made
             )
             INSERT INTO {{schema}}.job_ready (lane, namespace, queue, kind, route, alone, rank, run_at, id, token,
                                               place)
             SELECT hashtextextended(queue, 0), namespace, queue, kind, '', false, 0, run_at, id, 0, place FROM made"
        ))
        .await;
}

/// The tables whose statistics matter.
fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.into_iter().chain(JOB_TABLES)
}

async fn without_autovacuum() -> Fresh {
    let fresh = Fresh::new().await;
    for table in tables() {
        fresh.run(&format!("ALTER TABLE {{schema}}.{table} SET (autovacuum_enabled = false)")).await;
    }
    fresh
}

async fn assert_keyed(fresh: &Fresh, case: &str) {
    let keyed = client_with(fresh, keyed_options()).await;
    let ordered = client_with(fresh, ordered_options()).await;
    let mut found = Vec::new();
    for statement in planned(&fresh.schema).iter().filter(|statement| statement.prepared) {
        let name = statement.name;
        let in_order = ORDERED.contains(&name);
        // Without values: the plan is the generic one, as the store uses it.
        let plan = explain(if in_order { &ordered } else { &keyed }, statement, 0).await;
        if SKIPPING.contains(&name) {
            for table in ["job_ready", "job "] {
                assert!(!plan.contains(&format!("Seq Scan on {table}")), "{name} on {case} tables:\n{plan}");
            }
            continue;
        }
        if !wide_scans(&plan).is_empty() {
            found.push(format!("{name} on {case} tables reads too much: {:?}\n{plan}", wide_scans(&plan)));
        }
        // Queues that are set to let several jobs of a key through are looked for among those alone.
        let keyed = name != "promote_admit" || plan.contains("job_queue_keyed");
        assert!(keyed, "{name} on {case} tables:\n{plan}");
        let by_place = [
            "settle_outcome",
            "release",
            "acquire_free",
            "claim_one",
            "claim_many",
            "claim_permitted",
            "claim_aged",
            "job_settle_done",
            "job_settle_gone",
            "promote_due",
        ];
        let by_place = by_place.contains(&name);
        assert!(!by_place || plan.contains("Tid Scan"), "{name} on {case} tables:\n{plan}");
    }
    let body = let_through(fresh).await;
    let plan = explain(&ordered, &body, 0).await;
    assert!(
        wide_scans(&plan).is_empty() && !plan.contains("Seq Scan"),
        "let_through on {case} tables:\n{plan}"
    );
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// What the function does that counts who was let through under a key, as a statement.
async fn let_through(fresh: &Fresh) -> Planned {
    let client = fresh.client().await;
    let body =
        "SELECT prosrc FROM pg_proc WHERE proname = 'let_through' AND pronamespace = $1::text::regnamespace";
    let text: String = client.query_one(body, &[&fresh.schema]).await.unwrap().get(0);
    let text = text.replace("let_through.namespace", "$1").replace("let_through.ordering_key", "$2");
    Planned { name: "let_through", text, types: vec!["text".to_owned(), "text".to_owned()], prepared: true }
}

/// N45: whatever the planner knows or does not know.
#[tokio::test(flavor = "multi_thread")]
async fn n45_hot_statements_go_by_index_on_tables_of_every_size() {
    for (size, rows) in [("empty", 0), ("small", 100), ("large", 100_000)] {
        let fresh = without_autovacuum().await;
        fill(&fresh, rows).await;
        assert_keyed(&fresh, &format!("{size}, unknown")).await;
        for table in tables() {
            fresh.run(&format!("ANALYZE {{schema}}.{table}")).await;
        }
        assert_keyed(&fresh, &format!("{size}, analysed")).await;
    }
}

/// Behind a pooler every statement is planned for its values, with the settings of the server.
#[tokio::test(flavor = "multi_thread")]
async fn n45_statements_planned_for_their_values_go_by_index_on_large_tables() {
    let fresh = without_autovacuum().await;
    fill(&fresh, 100_000).await;
    for analysed in [false, true] {
        if analysed {
            for table in tables() {
                fresh.run(&format!("ANALYZE {{schema}}.{table}")).await;
            }
        }
        let client = fresh.client().await;
        client.batch_execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
        // Listings and upkeep may read ranges, and reading a million leases for the clock is meant.
        let keyed =
            |statement: &&Planned| statement.prepared || ["break_lease", "resolve"].contains(&statement.name);
        let mut found = Vec::new();
        for statement in planned(&fresh.schema).iter().filter(keyed) {
            let plan = explain(&client, statement, 64).await;
            if !wide_scans(&plan).is_empty() && !SKIPPING.contains(&statement.name) {
                let name = statement.name;
                found.push(format!("{name} (analysed: {analysed}): {:?}\n{plan}", wide_scans(&plan)));
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n\n"));
        // How much of the history is old, only statistics can tell.
        let ranged: &[&str] = if analysed { &["history", "prune_history"] } else { &["history"] };
        for statement in planned(&fresh.schema).iter().filter(|statement| ranged.contains(&statement.name)) {
            let plan = explain(&client, statement, 64).await;
            assert!(!plan.contains("Seq Scan on "), "{} (analysed: {analysed}):\n{plan}", statement.name);
        }
    }
}

/// Upkeep reads the pages it is at, and of the claims what was made since it last looked: never a whole large table.
#[tokio::test(flavor = "multi_thread")]
async fn upkeep_reads_a_part_of_a_large_table() {
    let fresh = without_autovacuum().await;
    fill(&fresh, 100_000).await;
    fresh.run("ANALYZE {schema}.once; ANALYZE {schema}.lease").await;
    let client = fresh.client().await;
    client.batch_execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    let statements = planned(&fresh.schema);
    let plan_of = async |name: &str, values: &str| {
        let statement = statements.iter().find(|statement| statement.name == name).unwrap();
        explain_with(&client, statement, values).await
    };
    for (name, values) in [
        ("prune_once", "(1000, 1, '(1024,0)', '(2048,0)')"),
        ("prune_untold", "(1000, 1, '(1024,0)', '(2048,0)')"),
        ("prune_leases", "(1000, 1, '(1024,0)', '(2048,0)', 1)"),
        ("sweep_hidden", "('(1024,0)', '(2048,0)')"),
    ] {
        let plan = plan_of(name, values).await;
        assert!(plan.contains("Tid Range Scan on ") && wide_scans(&plan).is_empty(), "{name}:\n{plan}");
    }
    let since = "(extract(epoch FROM clock_timestamp() + interval '1 minute') * 1000000)::bigint";
    let plan = plan_of("sweep", &format!("(1000, 1, 'expired', {since})")).await;
    assert!(plan.contains("once_claimed") && !plan.contains("Seq Scan on once"), "{plan}");
}

/// What is uncertain is a few rows among many, and it is found among those.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_what_is_uncertain_reads_no_finished_keys() {
    let fresh = without_autovacuum().await;
    fill(&fresh, 100_000).await;
    for analysed in [false, true] {
        if analysed {
            fresh.run("ANALYZE {schema}.once").await;
        }
        let client = fresh.client().await;
        client.batch_execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
        let statements = planned(&fresh.schema);
        let list = statements.iter().find(|statement| statement.name == "once_list_open").unwrap();
        // Every prefix, from the first key on, where upkeep has come as far as the newest claim.
        let swept = "(extract(epoch FROM clock_timestamp() + interval '1 minute') * 1000000)::bigint";
        let values = format!("('n1', NULL, 'uncertain', NULL, NULL, 50, {swept})");
        let plan = explain_with(&client, list, &values).await;
        let goes_by =
            |index: &str| plan.contains(&format!(" on {index}")) || plan.contains(&format!("using {index} "));
        assert!(
            !plan.contains("Seq Scan on once") && goes_by("once_doubted"),
            "analysed: {analysed}\n{plan}"
        );
        // How many claims are that young, only statistics can tell.
        assert!(!analysed || goes_by("once_claimed"), "{plan}");
    }
}

/// What forgets the terms of a service after one of them reads the first of its rows, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_terms_of_a_service_are_found_by_index() {
    let fresh = Fresh::new().await;
    fresh.run("ALTER TABLE {schema}.term SET (autovacuum_enabled = false)").await;
    fresh
        .run(
            "INSERT INTO {schema}.term (cycle, cycles, token, due_at, started_at, namespace, service, part, outcome)
             SELECT i, 1, i, clock_timestamp(), clock_timestamp(), 'n1', 's' || i % 3, '', 'done'
             FROM generate_series(1, 60000) i",
        )
        .await;
    let client = fresh.client().await;
    client.batch_execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    let statements = planned(&fresh.schema);
    let prune = statements.iter().find(|statement| statement.name == "service_prune_one").unwrap();
    for analysed in [false, true] {
        if analysed {
            fresh.run("ANALYZE {schema}.term").await;
        }
        let plan = explain_with(&client, prune, "(1, 256, 'n1', 's1')").await;
        assert!(!plan.contains("Seq Scan on term") && !plan.contains("Sort"), "analysed: {analysed}\n{plan}");
        // The first rows are taken in the order of the index: nothing is read to be thrown away.
        let oldest = plan.split("CTE oldest").nth(1).unwrap();
        assert!(oldest.lines().nth(2).is_some_and(|line| line.contains("term_pkey")), "{plan}");
    }
}
