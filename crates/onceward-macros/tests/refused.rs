//! What `#[derive(Job)]` and `#[durable]` refuse, and that they say what to do instead.

#[test]
fn what_cant_be_meant_is_a_compile_error_that_says_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}
