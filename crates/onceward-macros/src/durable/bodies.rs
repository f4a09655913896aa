//! What can't stand in the body of a step: durable calls that are told by their names. The rest, as calls of functions
//! that make durable calls, is refused when it runs (OW0902).

use syn::spanned::Spanned;
use syn::visit::{Visit, visit_expr_call};
use syn::{Block, Error, Expr, ExprCall, ExprPath, Macro, Path, Result};

/// Names that mean a durable call wherever they stand.
const ALWAYS: [&str; 2] = ["step", "step_in"];
/// Names that others have as well, such as `tokio::time::sleep`: only where the path says whose they are.
const QUALIFIED: [&str; 12] = [
    "sleep",
    "sleep_until",
    "signal",
    "join_all",
    "try_join_all",
    "map",
    "try_map",
    "race",
    "join",
    "try_join",
    "select",
    "patched",
];

/// Refuses the first durable call in the body of a step.
pub(super) fn check(body: &Block) -> Result<()> {
    let mut looking = Looking::default();
    looking.visit_block(body);
    looking.found.map_or(Ok(()), Err)
}

#[derive(Default)]
struct Looking {
    /// How many bodies of steps are around what is looked at.
    inside: usize,
    found: Option<Error>,
}

impl Looking {
    fn look(&mut self, path: &Path) {
        if self.inside == 0 || self.found.is_some() {
            return;
        }
        let Some(name) = durable_name(path) else { return };
        let why = format!(
            "`{name}` is a durable call, and stands in the body of a step: the body is written down as a whole, by \
             what it returns, and has no place for it; await it before the step and pass the value in, or after it"
        );
        self.found = Some(Error::new(path.span(), why));
    }
}

impl<'ast> Visit<'ast> for Looking {
    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let path = match &*call.func {
            Expr::Path(ExprPath { path, .. }) => Some(path),
            _ => None,
        };
        if let Some(path) = path {
            self.look(path);
        }
        // Its arguments that are closures are its body.
        if path.and_then(durable_name).is_some_and(|name| ALWAYS.contains(&name.as_str())) {
            for argument in &call.args {
                self.inside += usize::from(matches!(argument, Expr::Closure(_)));
                self.visit_expr(argument);
                self.inside -= usize::from(matches!(argument, Expr::Closure(_)));
            }
        } else {
            visit_expr_call(self, call);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.look(&called.path);
    }
}

/// The name of the durable call that a path means, where it says so.
fn durable_name(path: &Path) -> Option<String> {
    let name = path.segments.last()?.ident.to_string();
    let is_ours = path.segments.iter().rev().skip(1).any(|segment| segment.ident == "durable");
    let is_alone = path.segments.len() == 1;
    let means = (ALWAYS.contains(&name.as_str()) && (is_alone || is_ours))
        || (QUALIFIED.contains(&name.as_str()) && is_ours);
    means.then_some(name)
}
