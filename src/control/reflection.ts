/**
 * Server reflection, v1 and v1alpha: callers learn the service from the server itself. It answers
 * with the descriptors as buf made them, comments included; the loader that reflection is usually
 * fed from would make them anew and lose files on the way.
 */
import { BinaryReader } from '@bufbuild/protobuf/wire'
import type { Server } from '@grpc/grpc-js'
import { ReflectionService } from '@grpc/reflection'
import { FILE_DESCRIPTOR_SET } from './gen/descriptor.ts'

/** Field `file` of FileDescriptorSet, length-delimited. */
const FILE_TAG = (1 << 3) | 2

/** Adds it to a server. */
export function addReflection(server: Server): void {
  const all = { format: '', type: {}, fileDescriptorProtos: filesOf(FILE_DESCRIPTOR_SET) }
  const definitions = { all } as unknown as ConstructorParameters<typeof ReflectionService>[0]
  new ReflectionService(definitions).addToServer(server)
}

function filesOf(set: Uint8Array): Buffer[] {
  const files: Buffer[] = []
  const reader = new BinaryReader(set)
  while (reader.pos < reader.len) {
    const tag = reader.uint32()
    if (tag === FILE_TAG) files.push(Buffer.from(reader.bytes()))
    else reader.skip(tag & 7)
  }
  return files
}
