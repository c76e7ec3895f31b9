//! Reads queries: recursive descent, one method per level of precedence.

use crate::kql::QueryError;
use crate::kql::lex::{Placed, Token, lex};
use crate::kql::syntax::{Expression, Key, Named, Operator, Query, Source, Step, TextTest};
use crate::value::Datum;

/// Deepest nesting of expressions.
const DEPTH_MAX: usize = 64;

/// Reads a whole query.
pub(crate) fn parse(text: &str) -> Result<Query, QueryError> {
    let mut parser = Parser::new(lex(text)?);
    let source = parser.source()?;
    let query = Query {
        source,
        steps: parser.steps()?,
    };
    parser.skip_symbol(";");
    parser.end()?;
    Ok(query)
}

/// Reads tokens one after the other.
#[derive(Debug)]
pub(crate) struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

impl Parser {
    pub(crate) fn new(tokens: Vec<Placed>) -> Self {
        Self {
            tokens,
            next: 0,
            depth: 0,
        }
    }

    pub(crate) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    pub(crate) fn error(&self, message: &str) -> QueryError {
        let at = self.tokens.get(self.next).or(self.tokens.last());
        QueryError::syntax(at.map_or(0, |placed| placed.at), message)
    }

    pub(crate) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Token::Symbol(s)) if *s == symbol)
    }

    pub(crate) fn skip_symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.next += usize::from(found);
        found
    }

    pub(crate) fn symbol(&mut self, symbol: &str) -> Result<(), QueryError> {
        match self.skip_symbol(symbol) {
            true => Ok(()),
            false => Err(self.error(&format!("expected {symbol:?}"))),
        }
    }

    pub(crate) fn skip_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.next += usize::from(found);
        found
    }

    pub(crate) fn word(&mut self, word: &str) -> Result<(), QueryError> {
        match self.skip_word(word) {
            true => Ok(()),
            false => Err(self.error(&format!("expected {word:?}"))),
        }
    }

    /// A name, plain or quoted.
    pub(crate) fn name(&mut self) -> Result<String, QueryError> {
        match self.take() {
            Some(Token::Word(name) | Token::Quoted(name)) => Ok(name),
            _ => {
                self.next -= 1;
                Err(self.error("expected a name"))
            }
        }
    }

    /// A word with hyphens, such as `create-merge`.
    pub(crate) fn hyphenated(&mut self) -> Result<String, QueryError> {
        let mut word = self.name()?;
        while self.skip_symbol("-") {
            word.push('-');
            word.push_str(&self.name()?);
        }
        Ok(word)
    }

    /// A string.
    pub(crate) fn text(&mut self) -> Result<String, QueryError> {
        match self.take() {
            Some(Token::Text(text)) => Ok(text),
            _ => {
                self.next -= 1;
                Err(self.error("expected a string"))
            }
        }
    }

    pub(crate) fn end(&self) -> Result<(), QueryError> {
        match self.peek() {
            None => Ok(()),
            Some(token) => Err(self.error(&format!("unexpected {token:?}"))),
        }
    }

    fn source(&mut self) -> Result<Source, QueryError> {
        if self.skip_word("print") {
            return Ok(Source::Print(self.named_list()?));
        }
        let name = self.name()?;
        if name == "database" && self.skip_symbol("(") {
            // One service is one cluster; the table is looked for in the request's database.
            self.text()?;
            self.symbol(")")?;
            self.symbol(".")?;
            return Ok(Source::Table(self.name()?));
        }
        Ok(Source::Table(name))
    }

    /// The operators that follow, each after a bar.
    pub(crate) fn steps(&mut self) -> Result<Vec<Step>, QueryError> {
        let mut steps = Vec::new();
        while self.skip_symbol("|") {
            steps.push(self.step()?);
        }
        Ok(steps)
    }

    fn step(&mut self) -> Result<Step, QueryError> {
        let word = self.hyphenated()?;
        match word.as_str() {
            "where" | "filter" => Ok(Step::Where(self.expression()?)),
            "project" => Ok(Step::Project(self.named_list()?)),
            "project-away" => {
                let mut names = vec![self.name()?];
                while self.skip_symbol(",") {
                    names.push(self.name()?);
                }
                Ok(Step::ProjectAway(names))
            }
            "extend" => Ok(Step::Extend(self.named_list()?)),
            "distinct" => Ok(Step::Summarize {
                aggregates: Vec::new(),
                by: self.named_list()?,
            }),
            "summarize" => {
                let aggregates = match self.peek() {
                    Some(Token::Word(word)) if word == "by" => Vec::new(),
                    _ => self.named_list()?,
                };
                let by = match self.skip_word("by") {
                    true => self.named_list()?,
                    false => Vec::new(),
                };
                Ok(Step::Summarize { aggregates, by })
            }
            "count" => Ok(Step::Count),
            "take" | "limit" => Ok(Step::Take(self.count()?)),
            "order" | "sort" => {
                self.word("by")?;
                Ok(Step::Order(self.keys()?))
            }
            "top" => {
                let count = self.count()?;
                self.word("by")?;
                Ok(Step::Top(count, self.keys()?))
            }
            other => Err(QueryError::syntax(
                self.tokens.get(self.next).map_or(0, |placed| placed.at),
                &format!("operator {other:?} is not known to this stand-in"),
            )),
        }
    }

    fn count(&mut self) -> Result<usize, QueryError> {
        match self.take() {
            Some(Token::Literal(Datum::Long(count), _)) => Ok(usize::try_from(count).unwrap_or(0)),
            _ => {
                self.next -= 1;
                Err(self.error("expected a number of rows"))
            }
        }
    }

    fn keys(&mut self) -> Result<Vec<Key>, QueryError> {
        let mut keys = Vec::new();
        loop {
            let expression = self.expression()?;
            let descending = match self.skip_word("asc") {
                true => false,
                false => {
                    self.skip_word("desc");
                    true
                }
            };
            // By default nulls are the least values.
            let mut nulls_first = !descending;
            if self.skip_word("nulls") {
                nulls_first = self.skip_word("first");
                if !nulls_first {
                    self.word("last")?;
                }
            }
            keys.push(Key {
                expression,
                descending,
                nulls_first,
            });
            if !self.skip_symbol(",") {
                return Ok(keys);
            }
        }
    }

    fn named_list(&mut self) -> Result<Vec<Named>, QueryError> {
        let mut list = vec![self.named()?];
        while self.skip_symbol(",") {
            list.push(self.named()?);
        }
        Ok(list)
    }

    fn named(&mut self) -> Result<Named, QueryError> {
        let named = matches!(
            (
                self.peek(),
                self.tokens.get(self.next + 1).map(|p| &p.token)
            ),
            (
                Some(Token::Word(_) | Token::Quoted(_)),
                Some(Token::Symbol("="))
            )
        );
        let name = match named {
            true => {
                let name = self.name()?;
                self.symbol("=")?;
                Some(name)
            }
            false => None,
        };
        Ok(Named {
            name,
            expression: self.expression()?,
        })
    }

    fn expression(&mut self) -> Result<Expression, QueryError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("expressions are nested too deeply"));
        }
        let mut left = self.conjunction()?;
        while self.skip_word("or") {
            left = binary(Operator::Or, left, self.conjunction()?);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, QueryError> {
        let mut left = self.comparison()?;
        while self.skip_word("and") {
            left = binary(Operator::And, left, self.comparison()?);
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let left = self.sum()?;
        let token = self.peek().cloned();
        let operator = match &token {
            Some(Token::Symbol(symbol)) => match *symbol {
                "==" => Operator::Equal,
                "!=" => Operator::NotEqual,
                "=~" => Operator::EqualFold,
                "!~" => Operator::NotEqualFold,
                "<" => Operator::Less,
                "<=" => Operator::LessEqual,
                ">" => Operator::Greater,
                ">=" => Operator::GreaterEqual,
                _ => return Ok(left),
            },
            Some(Token::Word(word)) => {
                let (negated, plain) = match word.strip_prefix('!') {
                    Some(plain) => (true, plain),
                    None => (false, word.as_str()),
                };
                match plain {
                    "between" | "in" | "in~" => {
                        self.next += 1;
                        return match plain {
                            "between" => self.between(left, negated),
                            plain => self.list(left, plain == "in", negated),
                        };
                    }
                    "has" => Operator::Text(TextTest::Has, negated),
                    "contains" => Operator::Text(TextTest::Contains, negated),
                    "startswith" => Operator::Text(TextTest::StartsWith, negated),
                    "endswith" => Operator::Text(TextTest::EndsWith, negated),
                    _ => return Ok(left),
                }
            }
            _ => return Ok(left),
        };
        self.next += 1;
        Ok(binary(operator, left, self.sum()?))
    }

    fn between(&mut self, value: Expression, negated: bool) -> Result<Expression, QueryError> {
        self.symbol("(")?;
        let low = self.sum()?;
        self.symbol("..")?;
        let high = self.sum()?;
        self.symbol(")")?;
        Ok(Expression::Between(
            Box::new(value),
            Box::new(low),
            Box::new(high),
            negated,
        ))
    }

    fn list(
        &mut self,
        value: Expression,
        case: bool,
        negated: bool,
    ) -> Result<Expression, QueryError> {
        self.symbol("(")?;
        let list = self.arguments()?;
        Ok(Expression::In(Box::new(value), list, case, negated))
    }

    /// Expressions up to the closing parenthesis.
    fn arguments(&mut self) -> Result<Vec<Expression>, QueryError> {
        let mut arguments = Vec::new();
        if self.skip_symbol(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(match self.is_symbol("*") {
                true => {
                    self.next += 1;
                    Expression::Star
                }
                false => self.expression()?,
            });
            if !self.skip_symbol(",") {
                self.symbol(")")?;
                return Ok(arguments);
            }
        }
    }

    fn sum(&mut self) -> Result<Expression, QueryError> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Symbol("+")) => Operator::Add,
                Some(Token::Symbol("-")) => Operator::Subtract,
                _ => return Ok(left),
            };
            self.next += 1;
            left = binary(operator, left, self.product()?);
        }
    }

    fn product(&mut self) -> Result<Expression, QueryError> {
        let mut left = self.unary()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Symbol("*")) => Operator::Multiply,
                Some(Token::Symbol("/")) => Operator::Divide,
                Some(Token::Symbol("%")) => Operator::Modulo,
                _ => return Ok(left),
            };
            self.next += 1;
            left = binary(operator, left, self.unary()?);
        }
    }

    fn unary(&mut self) -> Result<Expression, QueryError> {
        if self.skip_symbol("-") {
            return Ok(Expression::Negate(Box::new(self.member()?)));
        }
        self.skip_symbol("+");
        self.member()
    }

    fn member(&mut self) -> Result<Expression, QueryError> {
        let mut value = self.primary()?;
        loop {
            let key = if self.skip_symbol(".") {
                let name = self.name()?;
                Expression::Literal(Datum::Text(name), crate::value::Kind::String)
            } else if let Some(Token::Quoted(name)) = self.peek().cloned() {
                self.next += 1;
                Expression::Literal(Datum::Text(name), crate::value::Kind::String)
            } else if self.skip_symbol("[") {
                let key = self.expression()?;
                self.symbol("]")?;
                key
            } else {
                return Ok(value);
            };
            value = Expression::Member(Box::new(value), Box::new(key));
        }
    }

    fn primary(&mut self) -> Result<Expression, QueryError> {
        match self.take() {
            Some(Token::Literal(value, kind)) => Ok(Expression::Literal(value, kind)),
            Some(Token::Text(text)) => Ok(Expression::Literal(
                Datum::Text(text),
                crate::value::Kind::String,
            )),
            Some(Token::Quoted(name)) => Ok(Expression::Column(name)),
            Some(Token::Word(name)) if self.skip_symbol("(") => {
                Ok(Expression::Call(name, self.arguments()?))
            }
            Some(Token::Word(name)) => Ok(Expression::Column(name)),
            Some(Token::Symbol("(")) => {
                let inner = self.expression()?;
                self.symbol(")")?;
                Ok(inner)
            }
            Some(Token::Symbol(_)) | None => {
                self.next -= 1;
                Err(self.error("expected an expression"))
            }
        }
    }
}

fn binary(operator: Operator, left: Expression, right: Expression) -> Expression {
    Expression::Binary(operator, Box::new(left), Box::new(right))
}
