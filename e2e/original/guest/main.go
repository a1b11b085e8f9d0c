// Command guest is the first process of an image whose load-balancer guests are not the product's: package stock. A
// web guest of it is what it always is.
package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"github.com/cloudtwin/cloudtwin/e2e/original/stock"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/guest"
	"github.com/cloudtwin/cloudtwin/lbvm-image/agent/rehearsal"
	"github.com/cloudtwin/cloudtwin/node/floppy"
)

func main() {
	os.Exit(guest.Main(map[string]guest.Flavour{
		"lbvm": {Run: runStock, Rehearse: rehearsal.LBVM},
		"web":  {Run: agent.RunWeb, Rehearse: rehearsal.Web},
	}))
}

// runStock gives a stock guest what its kernel would have: a floppy drive with a file system.
func runStock(ctx context.Context, world agent.World) error {
	drive, err := guest.OpenFloppyDrive()
	if err != nil {
		return fmt.Errorf("open floppy drive: %w", err)
	}
	return stock.Run(ctx, stock.Machine{
		Medium: func() (fs.FS, error) { return floppy.Read(drive) },
		Log:    world.Logger,
	})
}
