package verdict

import (
	"testing"
	"time"
)

func TestCauseIsReadAsItWasWritten(t *testing.T) {
	for _, c := range []Cause{
		{Blame: Product, What: "kernel panic", Subject: "i-1", Path: "/tmp/console.log", Time: time.Unix(5, 6).UTC()},
		{Blame: Infrastructure, What: "no \"room\"\n is left"},
	} {
		if got, err := Parse(c.JSON()); err != nil || got != c {
			t.Errorf("got %+v, %v; want %+v", got, err, c)
		}
	}
}

func TestWhatNobodyKnowsExcusesNothing(t *testing.T) {
	for _, text := range []string{"", "{}", `{"blame":"weather","what":"rain"}`, `{"what":"x"}`, `[]`} {
		if c, err := Parse(text); err == nil {
			t.Errorf("%q is read as %+v", text, c)
		}
	}
	for message, want := range map[string]Blame{
		"infrastructure: no memory": Infrastructure, "expected infrastructure: no": Product, "": Product,
	} {
		if got := OfMessage(message); got != want {
			t.Errorf("%q: %s, want %s", message, got, want)
		}
	}
}
