/** Why an image cannot be used, in words that go on "the disk image … cannot be used: ". */
export class ImageFault extends Error {
  override readonly name = "ImageFault";
}
