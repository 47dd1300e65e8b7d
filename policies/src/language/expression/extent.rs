//! Where in the text a sub-expression stands, from its first character to its last. The parser keeps one token a node.

use std::ops::Range;

use cel::common::ast::operators::INDEX;
use cel::common::ast::{CallExpr, Expr, IdedExpr, SourceInfo};

use super::tokens::{Token, balanced, closing};

/// The text of one expression and all that tells places in it.
pub(super) struct Extents<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    places: &'a SourceInfo,
}

impl<'a> Extents<'a> {
    /// Of a parsed text.
    pub(super) fn new(text: &'a str, tokens: &'a [Token<'a>], places: &'a SourceInfo) -> Extents<'a> {
        Extents { text, tokens, places }
    }

    /// The text itself.
    pub(super) fn text(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// From the first character of a sub-expression to its last.
    pub(super) fn of(&self, node: &IdedExpr) -> Range<usize> {
        let own = self.own(node);
        let span = match &node.expr {
            Expr::Select(select) => {
                let field = self.next_token(own.end).map_or(own.end, |token| token.span().end);
                self.of(&select.operand).start..field
            }
            Expr::Call(call) => self.of_call(call, own),
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                own.start..closing(self.tokens, own.start).unwrap_or(own.end)
            }
            Expr::Literal(_) => self.signed(own),
            _ => own,
        };
        balanced(self.tokens, span)
    }

    /// The name of the function or method that a call calls.
    pub(super) fn function_name(&self, node: &IdedExpr) -> Range<usize> {
        let own = self.own(node);
        self.token_before(own.start).map_or(own, |token| token.span())
    }

    /// The operator of an operation.
    pub(super) fn operator(&self, node: &IdedExpr) -> Range<usize> {
        self.own(node)
    }

    fn of_call(&self, call: &CallExpr, own: Range<usize>) -> Range<usize> {
        let first = call.target.as_deref().or_else(|| call.args.first()).map(|node| self.of(node));
        let last = call.args.last().map(|node| self.of(node));
        if call.func_name == INDEX {
            let start = first.map_or(own.start, |span| span.start);
            return start..closing(self.tokens, own.start).unwrap_or(own.end);
        }
        if is_operator(&call.func_name) {
            let start = first.map_or(own.start, |span| span.start.min(own.start));
            return start..last.map_or(own.end, |span| span.end);
        }
        let start = match &call.target {
            Some(target) => self.of(target).start,
            None => self.token_before(own.start).map_or(own.start, |token| token.start),
        };
        start..closing(self.tokens, own.start).unwrap_or(own.end)
    }

    /// The token that the parser remembers of a node.
    fn own(&self, node: &IdedExpr) -> Range<usize> {
        let (start, last) = self.places.offset_for(node.id).unwrap_or_default();
        let start = start as usize;
        let token = self.tokens.iter().find(|token| token.start == start);
        token.map_or(start..last as usize + 1, Token::span)
    }

    /// A number with the minus that belongs to it.
    fn signed(&self, own: Range<usize>) -> Range<usize> {
        let is_number = self.text(own.clone()).starts_with(|c: char| c.is_ascii_digit());
        let mut before = self.tokens.iter().rev().filter(|token| token.start < own.start);
        let minus = before.next().filter(|token| token.text == "-");
        // After a value a minus subtracts.
        let subtracts = before.next().is_some_and(|token| {
            token.text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '"' | '\''))
        });
        match minus {
            Some(minus) if is_number && !subtracts => minus.start..own.end,
            _ => own,
        }
    }

    fn next_token(&self, from: usize) -> Option<&'a Token<'a>> {
        self.tokens.iter().find(|token| token.start >= from)
    }

    fn token_before(&self, start: usize) -> Option<&'a Token<'a>> {
        self.tokens.iter().rev().find(|token| token.start < start)
    }
}

/// The parser calls operators by names that are no identifiers.
pub(super) fn is_operator(function: &str) -> bool {
    !function.starts_with(|c: char| c.is_alphabetic() || c == '.')
        && function.contains(['_', '@'])
        && !function.chars().all(|c| c.is_alphanumeric() || c == '_')
}
