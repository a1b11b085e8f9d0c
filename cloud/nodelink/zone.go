package nodelink

// ZoneID is the id of the one availability zone that a cloud has, whatever its region is called.
const ZoneID = "use1-az1"
