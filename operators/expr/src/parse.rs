//! Parses expressions that are not too deep for whoever walks over them.

use datafusion_common::DataFusionError;
use datafusion_sql::parser::DFParser;
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::ExpressionError;

/// How many operators may stand in one another; planning and evaluating go as deep on the stack.
pub(crate) const DEPTH_MAX: usize = 100;

pub(crate) fn parse(text: &str) -> Result<ast::ExprWithAlias, ExpressionError> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize();
    let tokens = tokens.map_err(|error| ExpressionError::new(error.message))?;
    let too_deep = || {
        ExpressionError::new(format!(
            "more than {DEPTH_MAX} operators in a row, or about 50 parentheses in one another"
        ))
    };
    if depth(&tokens) > DEPTH_MAX {
        return Err(too_deep());
    }
    DFParser::parse_sql_into_expr(text).map_err(|error| match error.find_root() {
        DataFusionError::SQL(parser, _)
            if matches!(**parser, ParserError::RecursionLimitExceeded) =>
        {
            too_deep()
        }
        _ => error.into(),
    })
}

/// How deep operators stand in one another at most, as `a + b + c` is `(a + b) + c`. The parser
/// itself bounds what else can be nested.
fn depth(tokens: &[Token]) -> usize {
    #[derive(Default)]
    struct Level {
        now: usize,
        most: usize,
    }
    let mut outer: Vec<Level> = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match part(token) {
            Part::Operand => {}
            Part::Operator => level.now += 1,
            Part::Opening => outer.push(std::mem::take(&mut level)),
            Part::Closing => {
                let inner = level.most.max(level.now);
                level = outer.pop().unwrap_or_default();
                level.now = level.now.max(inner + 1);
            }
            Part::Beside => {
                level.most = level.most.max(level.now);
                level.now = 0;
            }
        }
    }
    (outer.iter().chain([&level]))
        .map(|level| level.most.max(level.now))
        .sum()
}

/// What a token is for the depth.
enum Part {
    Operand,
    Operator,
    Opening,
    Closing,
    /// What follows stands beside what was before.
    Beside,
}

fn part(token: &Token) -> Part {
    match token {
        Token::Word(word) => match word.keyword {
            Keyword::CASE => Part::Opening,
            Keyword::END => Part::Closing,
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE => Part::Beside,
            Keyword::AND | Keyword::OR | Keyword::XOR | Keyword::NOT => Part::Operator,
            Keyword::IS | Keyword::IN | Keyword::LIKE | Keyword::ILIKE | Keyword::SIMILAR => {
                Part::Operator
            }
            Keyword::BETWEEN | Keyword::REGEXP | Keyword::AT | Keyword::COLLATE => Part::Operator,
            _ => Part::Operand,
        },
        Token::LParen | Token::LBracket | Token::LBrace => Part::Opening,
        Token::RParen | Token::RBracket | Token::RBrace => Part::Closing,
        Token::Comma => Part::Beside,
        Token::Whitespace(_) | Token::Period | Token::Number(..) | Token::SingleQuotedString(_) => {
            Part::Operand
        }
        _ => Part::Operator,
    }
}
