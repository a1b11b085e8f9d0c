package report

import "github.com/chromedp/cdproto/emulation"

// dark is what a browser says of a user who prefers dark pages.
func dark() *emulation.SetEmulatedMediaParams {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: "dark"},
	})
}
