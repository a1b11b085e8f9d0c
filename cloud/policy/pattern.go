package policy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// pattern is a compiled text with the wildcards * and ? and, in documents of version 2012-10-17, policy variables.
// The shapes that nearly all real policies use have a path of their own: everything, one literal, a literal prefix.
type pattern struct {
	text   string // as written
	shape  patternShape
	lit    string
	pieces []piece
}

type patternShape int

const (
	shapeAny patternShape = iota
	shapeLiteral
	shapePrefix
	shapeGlob
	shapeVariable
)

type pieceKind int

const (
	pieceLiteral pieceKind = iota
	pieceStar
	pieceQuestion
	pieceVariable
)

type piece struct {
	kind     pieceKind
	lit      string // literal text, or the variable's key in lower case
	key      string // of a variable, as written
	fallback string // of a variable
	hasBack  bool
}

var errVariable = errors.New("a policy variable is not closed with }")

// compilePattern reads text. Without variables, ${…} is plain text (documents of version 2008-10-17). Without
// wildcards, * and ? are plain text (StringEquals).
func compilePattern(text string, variables, wildcards bool) (pattern, error) {
	p := pattern{text: text}
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			p.pieces = append(p.pieces, piece{kind: pieceLiteral, lit: lit.String()})
			lit.Reset()
		}
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '*' && wildcards:
			flush()
			if n := len(p.pieces); n == 0 || p.pieces[n-1].kind != pieceStar {
				p.pieces = append(p.pieces, piece{kind: pieceStar})
			}
		case c == '?' && wildcards:
			flush()
			p.pieces = append(p.pieces, piece{kind: pieceQuestion})
		case c == '$' && variables && strings.HasPrefix(text[i:], "${"):
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return pattern{}, errVariable
			}
			v, literal := compileVariable(text[i+2 : i+end])
			if literal {
				lit.WriteString(v.lit)
			} else {
				flush()
				p.pieces = append(p.pieces, v)
			}
			i += end
		default:
			lit.WriteByte(c)
		}
	}
	flush()
	p.classify()
	return p, nil
}

// compileVariable reads what stands between ${ and }: a condition key, perhaps with a default as in
// ${aws:username, 'nobody'}, or one of the escapes ${*}, ${?} and ${$}.
func compileVariable(body string) (v piece, literal bool) {
	switch body {
	case "*", "?", "$":
		return piece{kind: pieceLiteral, lit: body}, true
	}
	key, fallback, hasBack := strings.Cut(body, ",")
	key = strings.TrimSpace(key)
	v = piece{kind: pieceVariable, lit: strings.ToLower(key), key: key}
	if hasBack {
		fallback = strings.TrimSpace(fallback)
		if n := len(fallback); n >= 2 && fallback[0] == '\'' && fallback[n-1] == '\'' {
			v.fallback, v.hasBack = fallback[1:n-1], true
		}
	}
	return v, false
}

func (p *pattern) classify() {
	p.shape = shapeGlob
	for _, q := range p.pieces {
		if q.kind == pieceVariable {
			p.shape = shapeVariable
			return
		}
	}
	switch {
	case len(p.pieces) == 0:
		p.shape = shapeLiteral
	case len(p.pieces) == 1 && p.pieces[0].kind == pieceStar:
		p.shape = shapeAny
	case len(p.pieces) == 1 && p.pieces[0].kind == pieceLiteral:
		p.shape, p.lit = shapeLiteral, p.pieces[0].lit
	case len(p.pieces) == 2 && p.pieces[0].kind == pieceLiteral && p.pieces[1].kind == pieceStar:
		p.shape, p.lit = shapePrefix, p.pieces[0].lit
	}
}

// match reports whether s matches p in this request. A variable that the request has no single value for, and that
// has no default, matches nothing; resolved is then false.
func (p *pattern) match(s string, ctx Context, fold bool) (matched, resolved bool) {
	switch p.shape {
	case shapeAny:
		return true, true
	case shapeLiteral:
		return equal(s, p.lit, fold), true
	case shapePrefix:
		return len(s) >= len(p.lit) && equal(s[:len(p.lit)], p.lit, fold), true
	case shapeGlob:
		return glob(p.pieces, s, fold), true
	case shapeVariable:
		var room [16]piece
		pieces, ok := resolve(p.pieces, ctx, room[:0])
		if !ok {
			return false, false
		}
		return glob(pieces, s, fold), true
	}
	return false, true
}

// resolve puts the request's values in place of the variables. Wildcards inside a value are plain text, so a user
// cannot widen a policy by the choice of a name.
func resolve(pieces []piece, ctx Context, into []piece) ([]piece, bool) {
	for _, q := range pieces {
		if q.kind != pieceVariable {
			into = append(into, q)
			continue
		}
		var values []string
		if ctx != nil {
			values, _ = ctx.Values(q.lit)
		}
		switch {
		case len(values) == 1:
			into = append(into, piece{kind: pieceLiteral, lit: values[0]})
		case len(values) == 0 && q.hasBack:
			into = append(into, piece{kind: pieceLiteral, lit: q.fallback})
		default:
			return nil, false
		}
	}
	return into, true
}

// glob matches s against pieces in O(len(s) x len(pieces)): on a mismatch it goes back to the last star only.
func glob(pieces []piece, s string, fold bool) bool {
	pi, si := 0, 0
	starPiece, starAt := -1, 0
	for si < len(s) || pi < len(pieces) {
		if pi < len(pieces) {
			if pieces[pi].kind == pieceStar {
				starPiece, starAt = pi, si
				pi++
				continue
			}
			if n, ok := step(pieces[pi], s[si:], fold); ok {
				si += n
				pi++
				continue
			}
		}
		if starPiece < 0 || starAt >= len(s) {
			return false
		}
		starAt++
		pi, si = starPiece+1, starAt
	}
	return true
}

func step(p piece, s string, fold bool) (int, bool) {
	if p.kind == pieceQuestion {
		if s == "" {
			return 0, false
		}
		_, n := utf8.DecodeRuneInString(s)
		return n, true
	}
	if len(s) < len(p.lit) || !equal(s[:len(p.lit)], p.lit, fold) {
		return 0, false
	}
	return len(p.lit), true
}

func equal(a, b string, fold bool) bool {
	if !fold {
		return a == b
	}
	return strings.EqualFold(a, b)
}

// arnPattern is a pattern whose six parts are matched one by one, so that a star never reaches over a colon of the
// first five.
type arnPattern struct {
	parts []pattern // six, or one when the text is just "*"
}

const arnParts = 6

func compileARN(text string, variables bool) (arnPattern, error) {
	var a arnPattern
	for _, part := range splitARN(text, variables) {
		p, err := compilePattern(part, variables, true)
		if err != nil {
			return arnPattern{}, err
		}
		a.parts = append(a.parts, p)
	}
	if len(a.parts) != arnParts && text != "*" {
		return arnPattern{}, errors.New("must be an ARN of six parts or *")
	}
	return a, nil
}

// splitARN cuts at the first five colons that are not inside a variable.
func splitARN(text string, variables bool) []string {
	var parts []string
	start, inside := 0, false
	for i := 0; i < len(text) && len(parts) < arnParts-1; i++ {
		switch {
		case variables && strings.HasPrefix(text[i:], "${"):
			inside = true
		case text[i] == '}':
			inside = false
		case text[i] == ':' && !inside:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

func (a *arnPattern) match(s string, ctx Context) bool {
	if len(a.parts) == 1 {
		return true
	}
	for i := range a.parts {
		part, rest := s, ""
		if i < arnParts-1 {
			var ok bool
			if part, rest, ok = strings.Cut(s, ":"); !ok {
				return false
			}
		}
		if ok, _ := a.parts[i].match(part, ctx, false); !ok {
			return false
		}
		s = rest
	}
	return true
}
