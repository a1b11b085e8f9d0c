package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Step is one line of the demo.
type Step struct {
	Number string // of the key's journey, or empty
	Title  string
}

// Presenter shows steps as they go. Steps begin and end in order, one at a time.
type Presenter interface {
	Begin(step Step)
	// End tells how the step that began last went; detail is one line, err nil on success.
	End(took time.Duration, detail string, err error)
	// Report shows the result; it comes last.
	Report(r *Report)
}

// NewLive shows steps on a terminal, the current one with a spinner.
func NewLive(w io.Writer) Presenter {
	return &live{plain: plain{w: w}, progress: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh())}
}

type live struct {
	plain
	progress *mpb.Progress
	bar      *mpb.Bar
	started  time.Time
}

func (l *live) Begin(step Step) {
	l.step, l.started = step, time.Now()
	name := line(step)
	l.bar = l.progress.New(1, mpb.SpinnerStyle(), mpb.BarRemoveOnComplete(), mpb.BarWidth(2),
		mpb.AppendDecorators(decor.Name(name+" "), decor.Elapsed(decor.ET_STYLE_GO)))
}

func (l *live) End(took time.Duration, detail string, err error) {
	l.bar.SetCurrent(1)
	l.bar.Abort(true)
	_, _ = fmt.Fprintln(l.progress, l.result(took, detail, err))
	if err != nil {
		l.progress.Wait()
	}
}

func (l *live) Report(r *Report) {
	l.progress.Wait()
	l.plain.Report(r)
}

// NewPlain shows a line for each finished step, for pipes and logs.
func NewPlain(w io.Writer) Presenter { return &plain{w: w} }

type plain struct {
	w    io.Writer
	step Step
}

func (p *plain) Begin(step Step) { p.step = step }

func (p *plain) End(took time.Duration, detail string, err error) {
	_, _ = fmt.Fprintln(p.w, p.result(took, detail, err))
}

func (p *plain) Report(r *Report) { r.WriteText(p.w) }

func (p *plain) result(took time.Duration, detail string, err error) string {
	mark, text := "ok  ", detail
	if err != nil {
		mark, text = "FAIL", err.Error()
	}
	return strings.TrimRight(fmt.Sprintf("%s %6.2fs  %-50s %s", mark, took.Seconds(), line(p.step), text), " ")
}

func line(s Step) string {
	if s.Number == "" {
		return "   " + s.Title
	}
	return fmt.Sprintf("%2s %s", s.Number, s.Title)
}

// NewJSON shows every event as one JSON object a line.
func NewJSON(w io.Writer) Presenter { return &jsonLines{encoder: json.NewEncoder(w)} }

type jsonLines struct {
	encoder *json.Encoder
	step    Step
}

type jsonEvent struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"` // begin, end, report
	Number  string    `json:"number,omitempty"`
	Title   string    `json:"title,omitempty"`
	Seconds float64   `json:"seconds,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Error   string    `json:"error,omitempty"`
	Report  *Report   `json:"report,omitempty"`
}

func (j *jsonLines) Begin(step Step) {
	j.step = step
	_ = j.encoder.Encode(jsonEvent{Time: time.Now(), Event: "begin", Number: step.Number, Title: step.Title})
}

func (j *jsonLines) End(took time.Duration, detail string, err error) {
	ev := jsonEvent{Time: time.Now(), Event: "end", Number: j.step.Number, Title: j.step.Title,
		Seconds: took.Seconds(), Detail: detail}
	if err != nil {
		ev.Error = err.Error()
	}
	_ = j.encoder.Encode(ev)
}

func (j *jsonLines) Report(r *Report) {
	_ = j.encoder.Encode(jsonEvent{Time: time.Now(), Event: "report", Report: r})
}
