package report

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
	"github.com/cloudtwin/cloudtwin/fixtures/pki"
)

// loadTimeout bounds everything that a spec asks of the browser.
const loadTimeout = time.Minute

// tab is an open page, with all that it asked and complained of.
type tab struct {
	ctx context.Context

	mu       sync.Mutex
	asked    []string
	complain []string
}

// open opens a file in a new tab.
func open(file string) *tab {
	GinkgoHelper()
	t := &tab{}
	ctx, end := chromedp.NewContext(browser)
	DeferCleanup(end)
	t.ctx, end = context.WithTimeout(ctx, loadTimeout)
	DeferCleanup(end)
	chromedp.ListenTarget(ctx, func(ev any) {
		t.mu.Lock()
		defer t.mu.Unlock()
		switch ev := ev.(type) {
		case *network.EventRequestWillBeSent:
			t.asked = append(t.asked, ev.Request.URL)
		case *log.EventEntryAdded:
			t.complain = append(t.complain, ev.Entry.Text)
		case *runtime.EventExceptionThrown:
			t.complain = append(t.complain, ev.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			t.complain = append(t.complain, string(ev.Type))
		}
	})
	t.run(network.Enable(), log.Enable(), runtime.Enable(), chromedp.Navigate("file://"+file),
		chromedp.WaitVisible("#rows .row"))
	return t
}

func (t *tab) run(actions ...chromedp.Action) {
	GinkgoHelper()
	Expect(chromedp.Run(t.ctx, actions...)).To(Succeed())
}

// press types a key where nothing has the focus.
func (t *tab) press(keys string) {
	GinkgoHelper()
	t.run(chromedp.Evaluate(`document.activeElement.blur()`, nil), chromedp.KeyEvent(keys))
}

// set gives a field a value and tells the page, as a user's choice does.
func set(id, value string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`document.getElementById(%q).value = %q;
		document.getElementById(%q).dispatchEvent(new Event("input"))`, id, value, id), nil)
}

// value evaluates an expression.
func value[T any](t *tab, expression string) func() (T, error) {
	return func() (out T, err error) {
		err = chromedp.Run(t.ctx, chromedp.Evaluate(expression, &out))
		return out, err
	}
}

// picture keeps what the page looks like when CLOUDTWIN_PICTURES names a folder.
func (t *tab) picture(name string) {
	GinkgoHelper()
	dir := os.Getenv("CLOUDTWIN_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	t.run(chromedp.CaptureScreenshot(&png))
	Expect(os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)).To(Succeed())
}

// faults is a schedule that does nothing to what the page shows, and faultSeed its seed.
const (
	faults = `{"version": 1, "seed": ` + faultSeed + `, "faults": [
		{"id": "late", "kind": "api.latency", "target": "ListRoles", "with": {"delay": "1ms"}}]}`
	faultSeed = "4711"
)

const kindsShown = `[...new Set([...document.querySelectorAll("#rows .row :nth-child(3)")].map(e => e.textContent))]`

var _ = Describe("The page of a bundle", Label(twin.NeedsSim), Ordered, func() {
	var (
		page, guest, web string
		lb               *twin.LoadBalancer
	)
	BeforeAll(func(ctx context.Context) {
		cert := cloud.Upload(pki.P256, "www.example.test")
		lb = cloud.CreateLoadBalancer(nil, twin.HTTPS(8443, cert.ARN))
		Eventually(lb.Listener(8443, cert.CA, "www.example.test")).WithTimeout(cloud.BootTimeout()).Should(
			twin.PresentCertificate(cert))
		guest = lb.Machine().ID
		web = cloud.Backends(2)[0]
		Expect(cloud.DeleteCertificate("never-uploaded")).NotTo(Succeed()) // what the page must put first

		dir := GinkgoT().TempDir()
		schedule := filepath.Join(dir, "faults.json")
		Expect(os.WriteFile(schedule, []byte(faults), 0o600)).To(Succeed())
		file := filepath.Join(dir, "evidence.zip")
		page = filepath.Join(dir, "evidence.html")
		for _, args := range [][]string{{"fault", "load", schedule}, {"bundle", "-o", file},
			{"inspect", "--html", page, file}} {
			code, _, stderr := cloud.Command(ctx, args...)
			Expect(code).To(BeZero(), stderr)
		}
	})

	It("opens from the disk, asks no network and has no fault", func() {
		t := open(page)
		Expect(value[string](t, `document.title`)()).To(HavePrefix("cloudtwin "))
		Expect(value[int](t, `document.querySelectorAll(".lane.guest").length`)()).To(Equal(3))
		Expect(value[string](t, `document.querySelector("#failures button").textContent`)()).To(
			ContainSubstring("NoSuchEntity"))
		t.picture("1-all")
		t.mu.Lock()
		defer t.mu.Unlock()
		Expect(t.asked).To(HaveExactElements("file://" + page))
		Expect(t.complain).To(BeEmpty())
	})

	It("shows the guest that is clicked: its stages, events and console", func() {
		t := open(page)
		t.run(chromedp.Click(`.lane[data-id="` + guest + `"]`))
		Expect(value[[]string](t, `[...document.querySelectorAll(".steps span:nth-child(3n+1)")].map(e => e.textContent)`)()).
			To(ContainElements("medium-read", "serving"))
		Expect(value[bool](t, `view.found.length > 5 && view.found.length < events.length &&
			view.found.every(ev => JSON.stringify(ev).includes("`+guest+`"))`)()).To(BeTrue())
		t.press("z")
		t.picture("2-guest")
		t.run(chromedp.Click("#tab-console"))
		Expect(value[string](t, `document.getElementById("detail").textContent`)()).To(ContainSubstring(`"stage":"serving"`))
		t.picture("3-console")
	})

	It("shows what a display showed, and the seed of the faults", func() {
		t := open(page)
		t.run(chromedp.Click(`.lane[data-id="` + web + `"]`))
		Eventually(value[int](t, `(() => { const img = document.querySelector("img[alt='screen of `+web+`']");
			return img ? img.naturalWidth : 0; })()`)).Should(BeNumerically(">=", 320), "a picture that can be read")
		Expect(value[string](t, `document.body.textContent`)()).To(ContainSubstring("faults' seed " + faultSeed))
		t.picture("6-screen")
	})

	It("filters by what is typed, by kind and by trouble, and is told from the keyboard", func() {
		t := open(page)
		t.press("/")
		Expect(value[string](t, `document.activeElement.id`)()).To(Equal("text"))
		// The protocol types the slash itself too, which a keyboard would not.
		t.run(set("text", ""), chromedp.KeyEvent("nosuchentity"))
		Eventually(value[[]string](t, kindsShown)).Should(HaveExactElements("api.request"))
		Expect(value[string](t, `document.getElementById("count").textContent`)()).To(HavePrefix("1 of "))
		t.press(kb.Escape)
		Expect(value[bool](t, `view.found.length === events.length`)()).To(BeTrue())

		t.run(set("kind", "delivery.granted"))
		Expect(value[[]string](t, kindsShown)()).To(HaveExactElements("delivery.granted"))
		t.press("j")
		Expect(value[string](t, `document.getElementById("detail").textContent`)()).To(And(
			ContainSubstring("delivery.granted"), ContainSubstring(guest)))
		t.press("t") // all that is of the same request
		t.run(set("kind", ""))
		Eventually(value[[]string](t, kindsShown)).Should(ContainElements("delivery.granted", "api.request"))
		t.picture("4-trace")

		t.press(kb.Escape)
		t.press("n")
		Expect(value[string](t, `document.querySelector(".row.chosen").className`)()).To(ContainSubstring("bad"))
	})

	It("reads well in the dark", func() {
		t := open(page)
		t.run(chromedp.ActionFunc(func(ctx context.Context) error { return dark().Do(ctx) }))
		Expect(value[string](t, `getComputedStyle(document.body).backgroundColor`)()).To(Equal("rgb(20, 23, 27)"))
		t.run(chromedp.Click(`.lane[data-id="` + guest + `"]`))
		t.picture("5-dark")
	})

	It("is as safe as the bundle: what guests write is text", func(ctx context.Context) {
		text, err := os.ReadFile(page)
		Expect(err).NotTo(HaveOccurred())
		Expect(strings.Count(string(text), "<script")).To(Equal(2))
		code, stdout, stderr := cloud.Command(ctx, "leakscan", page)
		Expect(code).To(BeZero(), stdout+stderr)
	})
})
