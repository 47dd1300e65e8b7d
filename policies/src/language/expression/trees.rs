//! Trees of expressions, each text parsed once: rules ask for the same pools again and again, and the parser is the
//! slowest part of reading a policy.

use std::collections::BTreeMap;
use std::rc::Rc;

use cel::Env as CelEnv;
use cel::common::ast::{Expr, IdedExpr, SourceInfo};

use super::super::diagnostic::Diagnostic;
use super::tokens::Token;
use super::{MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_NODES, syntax};

/// A parsed expression within its bounds.
pub(super) struct Tree {
    pub(super) root: IdedExpr,
    /// Where its parts stand in the text.
    pub(super) places: SourceInfo,
}

/// The trees of one file.
#[derive(Default)]
pub(in super::super) struct Trees(BTreeMap<String, Rc<Tree>>);

impl Trees {
    /// The tree of a text, or what is wrong with the text.
    pub(super) fn tree(&mut self, text: &str, tokens: &[Token<'_>]) -> Result<Rc<Tree>, Vec<Diagnostic>> {
        if let Some(known) = self.0.get(text) {
            return Ok(Rc::clone(known));
        }
        let tree = Rc::new(parse(text, tokens)?);
        self.0.insert(text.to_owned(), Rc::clone(&tree));
        Ok(tree)
    }
}

fn parse(text: &str, tokens: &[Token<'_>]) -> Result<Tree, Vec<Diagnostic>> {
    // The environment has no macros: `has` and the comprehensions arrive as the plain calls they look like.
    let parser = CelEnv::default().parser().max_recursion_depth(MAX_EXPRESSION_DEPTH as u16).error_recovery_limit(1);
    let parsed = parser.parse_with_source_info(text);
    let (root, places) = parsed.map_err(|errors| syntax::told(text, tokens, &errors))?;
    if count(&root) > MAX_EXPRESSION_NODES {
        let message = format!("the expression has more than {MAX_EXPRESSION_NODES} parts");
        return Err(vec![Diagnostic::error("expression-too-large", message)]);
    }
    Ok(Tree { root, places })
}

/// How many nodes a tree has. The parser has bounded its depth.
fn count(tree: &IdedExpr) -> usize {
    let below = match &tree.expr {
        Expr::Call(call) => {
            call.target.iter().map(|target| count(target)).sum::<usize>() + call.args.iter().map(count).sum::<usize>()
        }
        Expr::List(list) => list.elements.iter().map(count).sum(),
        Expr::Select(select) => count(&select.operand),
        _ => 0,
    };
    1 + below
}
