package bundle

import (
	"bufio"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudtwin/cloudtwin/node/hypervisor"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string
)

// What a page holds at most: its reader is a person with a browser. What is left out it says.
const (
	mostInPage     = 60_000 // events
	latestInPage   = 40_000 // of them the last ones; the rest is what tells most of those before
	guestsInPage   = 5_000
	consoleInPage  = 256 << 10 // bytes of a console's end
	consolesInPage = 16 << 20  // bytes of all of them
	fileInPage     = 128 << 10 // bytes of another file's end
	filesInPage    = 8 << 20
	screenInPage   = 1 << 20 // bytes of a PNG
	screensInPage  = 16 << 20
	bucketsInPage  = 240 // of the chart of all events
)

// console is the end of a guest's console.
type console struct {
	Text string `json:"text"`
	Left int64  `json:"left,omitempty"` // bytes before it
}

// pageWriter writes the page's data as it is read, so that a page takes no more memory than its events.
type pageWriter struct {
	b      *Bundle
	report *Report
	out    *bufio.Writer
	kinds  map[string]int
	chart  [bucketsInPage][2]int // events, troubles
	kept   int
	notes  []string
	err    error
}

// WritePage writes one HTML file that needs nothing else: guests' lives as bars, events, traces, consoles and screens
// beside them, with filters. It asks no network and opens from the disk.
func (b *Bundle) WritePage(w io.Writer) error {
	report, err := b.Report()
	if err != nil {
		return err
	}
	head, rest, _ := strings.Cut(pageHTML, "/*STYLE*/")
	middle, rest, _ := strings.Cut(rest, "/*DATA*/")
	next, end, _ := strings.Cut(rest, "/*SCRIPT*/")
	p := &pageWriter{b: b, report: report, out: bufio.NewWriter(w), kinds: map[string]int{}}
	p.raw(head, pageStyle, middle)
	p.data()
	p.raw(next, pageScript, end)
	if p.err == nil {
		p.err = p.out.Flush()
	}
	if p.err != nil {
		return fmt.Errorf("write page: %w", p.err)
	}
	return nil
}

func (p *pageWriter) raw(texts ...string) {
	for _, t := range texts {
		if p.err == nil {
			_, p.err = p.out.WriteString(t)
		}
	}
}

// field writes one field of the data. encoding/json escapes what could end the script that holds it.
func (p *pageWriter) field(name string, value any) {
	if p.err != nil {
		return
	}
	encoded, err := json.Marshal(value)
	if p.err = err; err == nil {
		p.raw(`"`+name+`":`, string(encoded), ",\n")
	}
}

func (p *pageWriter) data() {
	names := slices.Sorted(maps.Keys(p.report.Kinds))
	for i, name := range names {
		p.kinds[name] = i
	}
	report := *p.report
	if len(report.Guests) > guestsInPage {
		report.Guests = slices.Clone(report.Guests)
		slices.SortStableFunc(report.Guests, func(a, b *Guest) int { return boolRank(b.failed()) - boolRank(a.failed()) })
		p.note("%s of %s guests are shown, those that failed first.", count(guestsInPage),
			count(len(report.Guests)))
		report.Guests = report.Guests[:guestsInPage]
	}
	p.raw("{")
	p.field("report", report)
	p.field("kinds", names)
	p.raw(`"events":[`)
	if p.err == nil {
		p.err = p.events()
	}
	p.raw("],\n")
	p.consoles(report.Guests)
	p.screens()
	p.files()
	p.field("topology", p.facts())
	p.field("total", report.To.Sub(report.From).Seconds()*1000)
	p.field("density", p.chart)
	if left := p.report.Events - p.kept; left > 0 {
		p.note("This page has %s of %s events: the last %s, and of those before what tells of trouble, of guests' lives "+
			"and of the requests that failed. The chart counts all; 'cloudtwin bundle' with --vm, --lb or --since makes a "+
			"bundle whose page has the others.", count(p.kept), count(p.report.Events), count(latestInPage))
	}
	p.field("seed", p.seed())
	p.field("notes", append([]string{}, p.notes...))
	p.raw(`"version":1}`)
}

func (p *pageWriter) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func boolRank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// count writes a number with a comma between thousands.
func count[N int | int64](n N) string {
	text := strconv.FormatInt(int64(n), 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// files takes those that a person may want to read.
func (p *pageWriter) files() {
	if p.err != nil {
		return
	}
	out, total := map[string]string{}, int64(0)
	left := 0
	for _, f := range p.b.Manifest.Files {
		if !strings.HasPrefix(f.Name, logsFolder+"/") && !slices.Contains([]string{".json", ".xml"}, path.Ext(f.Name)) &&
			path.Base(f.Name) != hypervisor.EvidenceLog {
			continue
		}
		if total += min(f.Size, fileInPage); total > filesInPage {
			left++
			continue
		}
		content, cut, err := p.b.end(f.Name, fileInPage)
		if err != nil {
			p.err = err
			return
		}
		if cut > 0 {
			content = fmt.Sprintf("(the first %s bytes are only in the bundle)\n", count(cut)) + content
		}
		out[f.Name] = content
	}
	if left > 0 {
		p.note("%s files are only in the bundle.", count(left))
	}
	p.field("files", out)
}

func (p *pageWriter) consoles(guests []*Guest) {
	if p.err != nil {
		return
	}
	out, total, left := map[string]console{}, int64(0), 0
	rank := map[string]int{}
	for i, g := range guests {
		rank[g.ID] = i - boolRank(g.failed())*len(guests)
	}
	list := p.b.guestFiles(consoleFile)
	slices.SortStableFunc(list, func(a, b File) int { return rank[guestOf(a.Name)] - rank[guestOf(b.Name)] })
	for _, f := range list {
		if total += min(f.Size, consoleInPage); total > consolesInPage {
			left++
			continue
		}
		content, cut, err := p.b.end(f.Name, consoleInPage)
		if err != nil {
			p.err = err
			return
		}
		out[guestOf(f.Name)] = console{content, cut}
	}
	if left > 0 {
		p.note("%s consoles are only in the bundle.", count(left))
	}
	p.field("consoles", out)
}

// screens embeds the guests' screens, by guest and by what they show.
func (p *pageWriter) screens() {
	if p.err != nil {
		return
	}
	out, total, left := map[string]map[string]string{}, int64(0), 0
	for _, f := range p.b.guestFiles(".png") {
		if total += f.Size; f.Size > screenInPage || total > screensInPage {
			left++
			continue
		}
		picture, err := p.b.read(f.Name, screenInPage)
		if err != nil {
			p.err = err
			return
		}
		id := guestOf(f.Name)
		if out[id] == nil {
			out[id] = map[string]string{}
		}
		out[id]["Screen"] = "data:image/png;base64," + base64.StdEncoding.EncodeToString(picture)
	}
	if left > 0 {
		p.note("%s screens are only in the bundle.", count(left))
	}
	p.field("screens", out)
}

// facts are what is known of each guest beyond its events, by its id.
func (p *pageWriter) facts() map[string]map[string]string {
	topology, err := p.b.Topology()
	if p.err == nil {
		p.err = err
	}
	if topology == nil {
		return nil
	}
	return topology.facts()
}

// seed is that of the faults that were active, empty without.
func (p *pageWriter) seed() string {
	if !p.b.has(faultsFile) || p.err != nil {
		return ""
	}
	text, err := p.b.read(faultsFile, maxFaults)
	if err != nil {
		p.err = err
		return ""
	}
	var schedule struct {
		Seed json.Number `json:"seed"`
	}
	_ = json.Unmarshal(text, &schedule) // what it says otherwise is not the page's matter
	return schedule.Seed.String()
}
